-- memop's part of the proxy's configuration, loaded after routelib: in the VM that configures and in every worker's.

-- New files are taken in within two seconds, if they are whole and memop's own: memcached ends when it is told to load
-- a configuration that is wrong. Only the VM that configures has a clock.
if mcp.register_cron then
    local function content(path)
        local file = io.open(path, "rb")
        if file == nil then
            return ""
        end
        local text = file:read("a")
        file:close()
        return text
    end

    -- FNV-1a of 32 bits, as memop has written it into the configuration's first line.
    local function whole(library, sum, routes)
        local hash = 2166136261
        for text in string.gmatch(library .. routes, ".") do
            hash = ((hash ~ string.byte(text)) * 16777619) & 0xffffffff
        end
        return tonumber(sum) == hash
    end

    local path = mcp.start_arg
    local function found()
        return content(string.match(path, "^.*/") .. "memop.lua"), content(path)
    end

    local library, config = found()
    -- `stats proxy` says which configuration is in use.
    mcp.add_stat(1, "config_" .. (string.match(config, "^%-%- (%d+)\n") or "foreign"))
    mcp.register_cron("memop_reload", { every = 1, func = function()
        local new_library, new_config = found()
        if new_library == library and new_config == config then
            return
        end
        library, config = new_library, new_config
        local sum, routes = string.match(config, "^%-%- (%d+)\n(.*)$")
        if sum ~= nil and whole(library, sum, routes) then
            mcp.schedule_config_reload()
        else
            io.stderr:write("memop: the new configuration is not memop's own, the old one stays\n")
        end
    end })
end

-- Replies that say: there is no such item here.
local ABSENT <const> = {
    [mcp.MCMC_CODE_END] = true,
    [mcp.MCMC_CODE_NOT_FOUND] = true,
    [mcp.MCMC_CODE_NOT_STORED] = true,
}

local function adds(r)
    local command = r:command()
    if command == mcp.CMD_MS then
        local _, mode = r:flag_token("M")
        return mode == "E" or mode == "e" or mode == "ADD" or mode == "add"
    end
    return command == mcp.CMD_ADD
end

-- Turns a request that one copy has granted into what gives the others the same item. False: they need nothing.
local function follows(r, added, makes)
    local command = r:command()
    if command == mcp.CMD_MG then
        return makes or r:has_flag("T")
    elseif command == mcp.CMD_CAS then
        r:token(6, "")
        r:token(1, "set")
    elseif command == mcp.CMD_ADD then
        r:token(1, "set")
    elseif command == mcp.CMD_MS or command == mcp.CMD_MA or command == mcp.CMD_MD then
        r:flag_del("C")
        if added then
            r:flag_del("M")
        end
    end
    return true
end

local function decided(rctx, arg)
    local others, all = arg.others, arg.all

    -- The reply and the number of the copy that decides; no number when none has an answer, or none the item.
    local function ask(handles, r, added)
        local answer, absent
        for i, handle in ipairs(handles) do
            answer = rctx:enqueue_and_wait(r, handle)
            if not answer:ok() then
                if all then
                    return answer
                end
            elseif ABSENT[answer:code()] and not added then
                absent = absent or answer
            else
                return answer, i
            end
        end
        return absent or answer
    end

    return function(r)
        local added = adds(r)
        -- An item is made on a miss only where no copy has it.
        local makes, seconds = false, nil
        if r:command() == mcp.CMD_MG then
            makes, seconds = r:flag_token("N")
        end
        if makes then
            r:flag_del("N")
        end
        local answer, decider = ask(arg.first, r, added)
        if makes and decider == nil then
            r:flag_add("N", seconds)
            answer, decider = ask(arg.again, r, added)
        else
            makes = false
        end
        if decider == nil then
            return answer
        end
        local code = answer:code()
        if code == mcp.MCMC_CODE_EXISTS or code == mcp.MCMC_CODE_NOT_STORED or not follows(r, added, makes) then
            return answer
        end
        rctx:enqueue(r, others[decider])
        if not all then
            rctx:wait_cond(0)
            return answer
        end
        rctx:wait_cond(#others[decider], mcp.WAIT_ANY)
        for _, handle in ipairs(others[decider]) do
            if rctx:result(handle) == nil then
                return "SERVER_ERROR a copy has not answered\r\n"
            end
        end
        return answer
    end
end

function route_decided_conf(t)
    return t
end

function route_decided_start(a, ctx, fgen)
    -- A handle takes one request of each client's, so every copy has several.
    local first, again, others = {}, {}, {}
    for i, child in ipairs(a.children) do
        first[i], again[i], others[i] = fgen:new_handle(child), fgen:new_handle(child), {}
    end
    for i, child in ipairs(a.children) do
        local handle = fgen:new_handle(child)
        for j = 1, #others do
            if j ~= i then
                table.insert(others[j], handle)
            end
        end
    end
    local arg = { first = first, again = again, others = others, all = a.all }
    fgen:ready({ a = arg, n = ctx:label(), f = decided })
end

function route_meta_get_conf(t)
    return t
end

function route_meta_get_start(a, ctx, fgen)
    local plain, deciding = fgen:new_handle(a.child_read), fgen:new_handle(a.child_decided)
    fgen:ready({ n = ctx:label(), f = function(rctx)
        return function(r)
            local changes = r:has_flag("c") or r:has_flag("T") or r:has_flag("N") or r:has_flag("R")
            return rctx:enqueue_and_wait(r, changes and deciding or plain)
        end
    end })
end

register_route_handlers({ "decided", "meta_get" })

-- A delete without a reply reaches memcached in a spelling that it refuses, with an error that the client does not
-- expect. So it is asked for a reply, which is dropped. ("delete KEY 0" is an old way to ask for one.)
function route_delete_conf(t)
    return t
end

function route_delete_start(a, ctx, fgen)
    local child = fgen:new_handle(a.child)
    fgen:ready({ n = ctx:label(), f = function(rctx)
        return function(r)
            local last = r:ntokens()
            if last == 2 or r:token(last) == "0" then
                return rctx:enqueue_and_wait(r, child)
            end
            rctx:enqueue_and_wait(mcp.request("delete " .. r:key() .. "\r\n"), child)
            return ""
        end
    end })
end

register_route_handlers({ "delete" })
