"""What an operator costs: time, CPU, memory, requests and bytes, on an API server made for each measurement.

`make bench` runs it; docs of the options: `python -m hack.bench --help`.

* `phases` is what is done to an operator, `baseline` and `limit` the least that its writes can cost, `report` tells.
* `place`: namespaces, so that bytes can be counted and nothing stays; `server`: one API server and its audit log.
* `features`: what the CRs ask for, and so which children they have.
* `observer`: the bench's own watches, which say when a CR has what it should; `quiet`: when a process is idle.
* `meter`, `api`, `proc`, `owned`: costs, requests, /proc, and the fields that an object's managers own.
"""
