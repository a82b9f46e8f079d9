module memop.invalid/hack/pause

go 1.24.0
