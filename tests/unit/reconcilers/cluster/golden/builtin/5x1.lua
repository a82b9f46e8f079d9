-- 3959112936
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
        "cache-r0-1.shop.svc.cluster.local.:11211",
        "cache-r0-2.shop.svc.cluster.local.:11211",
        "cache-r0-3.shop.svc.cluster.local.:11211",
        "cache-r0-4.shop.svc.cluster.local.:11211",
    } },
}
routes{
    cmap = {
        delete = route_delete{ child = "r0" },
    },
    default = route_direct{ child = "r0" },
}
