-- 1110775426
settings{
    backend_connect_timeout = 0.5,
    backend_read_timeout = 0.5,
    backend_retry_waittime = 1,
    backend_failure_limit = 1,
    tcp_keepalive = true,
}
pools{
    r0 = { backends = {
        "cache-r0-0.shop.svc.cluster.local.:11211",
    } },
    r1 = { backends = {
        "cache-r1-0.shop.svc.cluster.local.:11211",
    } },
    r2 = { backends = {
        "cache-r2-0.shop.svc.cluster.local.:11211",
    } },
}
routes{
    cmap = {
        get = route_failover{ children = { "r0", "r1", "r2" }, miss = true, shuffle = true },
        gat = route_decided{ children = { "r0", "r1", "r2" }, all = false },
        gets = route_failover{ children = { "r0", "r1", "r2" }, miss = true },
        mg = route_meta_get{
            child_read = route_failover{ children = { "r0", "r1", "r2" }, miss = true, shuffle = true },
            child_decided = route_decided{ children = { "r0", "r1", "r2" }, all = false },
        },
        set = route_allfastest{ children = { "r0", "r1", "r2" } },
        delete = route_delete{
            child = route_decided{ children = { "r0", "r1", "r2" }, all = false },
        },
    },
    default = route_decided{ children = { "r0", "r1", "r2" }, all = false },
}
