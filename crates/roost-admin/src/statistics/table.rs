//! Every statistic, once: its name (`group:name`, OpenSIPS's where OpenSIPS has it), its kind and its meaning. MI, metrics and
//! the reference are made from this table.

/// How a statistic moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatisticKind {
    /// It only grows, until `reset_statistics` (OpenSIPS: incremental).
    Counter,
    /// It says how things are now (OpenSIPS: non-incremental).
    Gauge,
}

/// One statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistic {
    /// `group:name`; `N` stands for a thread's number.
    pub name: &'static str,
    pub kind: StatisticKind,
    /// What it says.
    pub help: &'static str,
    /// The same in Chinese, of those that grow when a limit is reached or something is lost: more than 0 is told as a problem.
    pub lost: Option<&'static str>,
}

macro_rules! statistics {
    ($($kind:ident $name:literal $help:literal $(lost $lost:literal)?,)*) => {
        /// All, group by group.
        pub const STATISTICS: &[Statistic] = &[$(Statistic {
            name: $name,
            kind: StatisticKind::$kind,
            help: $help,
            lost: statistics!(lost $($lost)?),
        },)*];
    };
    (lost $lost:literal) => { Some($lost) };
    (lost) => { None };
}

statistics! {
    Gauge "core:timestamp" "seconds since the start",
    Counter "core:rcv_requests" "requests received",
    Counter "core:rcv_replies" "responses received",
    Counter "core:fwd_requests" "requests forwarded without a transaction",
    Counter "core:drop_requests" "requests dropped without an answer",
    Counter "core:drop_replies" "responses dropped",
    Counter "core:err_requests" "requests that are broken",
    Counter "core:bad_msg_hdr" "messages with a broken header",
    Counter "core:bad_URIs_rcvd" "requests whose Request-URI does not parse",
    Counter "core:slow_messages" "datagrams that waited longer than exec_msg_threshold before they were handled",

    Gauge "load:load" "time that the workers were busy in the last second, in percent of all workers' time",
    Gauge "load:load1m" "the same in the last minute",
    Gauge "load:load10m" "the same in the last ten minutes",
    Gauge "load:load-all" "the same as load:load, of all threads of the process",
    Gauge "load:load1m-all" "the same in the last minute",
    Gauge "load:load10m-all" "the same in the last ten minutes",
    Gauge "load:load-proc-N" "CPU time of thread N (`ps` lists them) in the last second, in percent",
    Gauge "load:load1m-proc-N" "the same in the last minute",
    Gauge "load:load10m-proc-N" "the same in the last ten minutes",
    Gauge "load:processes_number" "threads of the process",

    Gauge "shmem:total_size" "memory that the process may have: the machine's, or its control group's limit; bytes",
    Gauge "shmem:used_size" "memory that the process has in use, without mapped files; bytes",
    Gauge "shmem:real_used_size" "all resident memory of the process; bytes",
    Gauge "shmem:max_used_size" "the most that this was; bytes",
    Gauge "shmem:free_size" "total_size less real_used_size; bytes",
    Gauge "shmem:fragments" "memory mappings of the process",

    Gauge "pkmem:N-total_size" "as shmem: all threads share one memory, which is process 0's",
    Gauge "pkmem:N-used_size" "as shmem",
    Gauge "pkmem:N-real_used_size" "as shmem",
    Gauge "pkmem:N-max_used_size" "as shmem",
    Gauge "pkmem:N-free_size" "as shmem",
    Gauge "pkmem:N-fragments" "as shmem",

    Gauge "net:waiting_udp" "bytes that wait in the kernel on UDP sockets",
    Gauge "net:waiting_tcp" "bytes that wait in the kernel on TCP and WS connections",
    Gauge "net:waiting_tls" "bytes that wait in the kernel on TLS and WSS connections",
    Gauge "net:tcp_connections" "connections of all kinds",
    Counter "net:tcp_accepted" "connections accepted",
    Counter "net:tcp_connected" "connections that roost has made",
    Counter "net:tcp_connect_failed" "connections that roost could not make",
    Counter "net:tcp_refused" "connections refused: too many in all (tcp_max_connections)",
    Counter "net:tcp_refused_per_source" "connections refused: too many of one address (tcp_max_connections_per_source)",
    Counter "net:tcp_evicted" "silent connections closed to make room for others",
    Counter "net:tcp_closed_idle" "connections closed: silent for tcp_connection_lifetime",
    Counter "net:tcp_closed_unfinished" "connections closed: a message did not end within tcp_max_msg_time",
    Counter "net:tcp_closed_garbage" "connections closed: what came was not SIP, such as TLS or WebSocket at a tcp: port"
        lost "因内容不是 SIP 而关闭的连接，例如在 tcp: 端口上使用 TLS 或 WebSocket",
    Counter "net:tcp_closed_stuck" "connections closed: the peer took nothing",
    Counter "net:tcp_closed_silent" "connections closed: the peer did not answer a ping",
    Gauge "net:tls_connections" "connections with TLS",
    Counter "net:tls_handshakes_failed" "TLS handshakes that failed",
    Counter "net:tcp_without_proxy_header" "connections of balancers that did not begin with a PROXY header",
    Gauge "net:handshakes" "TLS and WebSocket handshakes under way",
    Counter "net:handshakes_refused" "connections refused: too many handshakes under way",
    Gauge "net:websocket_connections" "WebSocket connections",
    Counter "net:tcp_memory_full" "messages dropped: connections hold too much memory"
        lost "因连接占用内存过多而丢弃的消息",
    Counter "net:tcp_inbox_full" "messages dropped: a worker's inbox was full"
        lost "因工作线程的收件队列已满而丢弃的消息",
    Counter "net:tcp_unsent" "messages that a connection did not take",

    Counter "sl:1xx_replies" "1xx answers sent without a transaction",
    Counter "sl:2xx_replies" "2xx answers sent without a transaction",
    Counter "sl:3xx_replies" "3xx answers sent without a transaction",
    Counter "sl:4xx_replies" "4xx answers sent without a transaction",
    Counter "sl:5xx_replies" "5xx answers sent without a transaction",
    Counter "sl:6xx_replies" "6xx answers sent without a transaction",
    Counter "sl:sent_replies" "answers sent without a transaction",
    Counter "sl:sent_err_replies" "answers of 300 and more sent without a transaction",
    Counter "sl:received_ACKs" "ACKs to them",

    Counter "tm:received_replies" "responses received for transactions",
    Counter "tm:relayed_replies" "responses forwarded",
    Counter "tm:local_replies" "responses of roost's own in transactions",
    Counter "tm:UAS_transactions" "transactions begun by requests",
    Counter "tm:UAC_transactions" "transactions begun by roost: one for each branch",
    Counter "tm:2xx_transactions" "transactions that ended with 2xx",
    Counter "tm:3xx_transactions" "transactions that ended with 3xx",
    Counter "tm:4xx_transactions" "transactions that ended with 4xx",
    Counter "tm:5xx_transactions" "transactions that ended with 5xx",
    Counter "tm:6xx_transactions" "transactions that ended with 6xx",
    Gauge "tm:inuse_transactions" "transactions in memory",

    Gauge "registrar:max_expires" "the configured max_expires, in seconds",
    Gauge "registrar:max_contacts" "the configured max_contacts",
    Gauge "registrar:default_expire" "the configured default_expires, in seconds",
    Counter "registrar:accepted_regs" "REGISTERs accepted",
    Counter "registrar:rejected_regs" "REGISTERs refused",

    Gauge "usrloc:registered_users" "AORs with bindings",
    Gauge "usrloc:location-users" "AORs with bindings",
    Gauge "usrloc:location-contacts" "bindings",
    Gauge "usrloc:location-elsewhere" "those of them that other nodes have, as far as this one knows",
    Counter "usrloc:location-expires" "bindings that have expired",

    Counter "dialog:processed_dialogs" "calls seen",
    Counter "dialog:failed_dialogs" "calls that were not answered",
    Counter "dialog:expired_dialogs" "calls that ended by dialog.default_timeout or their session timer",
    Gauge "dialog:early_dialogs" "calls that are not answered yet",
    Gauge "dialog:active_dialogs" "calls that are answered",

    Counter "dns:dns_total_queries" "names looked up",
    Counter "dns:dns_slow_queries" "of these, longer than exec_dns_threshold",
    Counter "sql:sql_total_queries" "transactions and look-ups that the database did",
    Counter "sql:sql_slow_queries" "of these, longer than exec_query_threshold",

    Counter "nathelper:pings" "pings of phones sent",
    Counter "nathelper:pings_lost" "pings that no phone answered",

    Counter "database:transactions" "transactions that made bindings durable",
    Counter "database:commits" "changes of bindings in them",
    Gauge "database:largest_transaction" "the most changes in one",

    Counter "acc:records" "call records written",
    Gauge "acc:waiting" "call records that wait for the database or the file",
    Counter "acc:lost" "call records lost: acc.journal_max was reached"
        lost "因达到 acc.journal_max 而丢失的话单",
    Counter "acc:refused" "call records that the database refused",
    Counter "acc:journal_failures" "writes of the journal of calls that failed"
        lost "写入呼叫日志文件失败的次数",

    Gauge "event:subscribers" "MI subscribers of events",
    Counter "event:sent" "events sent to them",
    Counter "event:lost" "events that they did not take",
    Gauge "event:streams" "readers of /api/v1/events",
    Counter "event:streams_lost" "events that they lost",
    Counter "webhook:delivered" "events that webhooks took",
    Counter "webhook:failed" "posts to webhooks that failed, and are made again",
    Counter "webhook:lost" "events that webhooks lost"
        lost "webhook 丢失的事件",
    Gauge "hep:collectors" "collectors of [[hep]] and trace_start",
    Counter "hep:sent" "messages that they were sent",
    Counter "hep:lost" "messages that they did not take in time"
        lost "采集端未及时接收的消息",

    Gauge "recorder:extensions" "extensions whose last events are remembered (`roost why`)",
    Gauge "recorder:unknown_names" "names that do not exist whose last events are remembered",
    Gauge "recorder:bytes" "memory of these; bytes",
    Counter "recorder:evicted" "extensions and names that were forgotten to make room",
    Gauge "recorder:failures" "failed registrations and calls whose messages are kept (`roost trace --last`)",
    Gauge "recorder:failure_bytes" "memory of these; bytes",

    Counter "roost:header_lines_left_out" "lines of messages that are no header field, and were passed over",
    Counter "roost:keep_alives" "keep-alives received",
    Counter "roost:not_sip" "datagrams that are not SIP",
    Counter "roost:challenges" "challenges sent",
    Counter "roost:auth_failures" "wrong names and passwords",
    Counter "roost:banned_requests" "requests refused by a ban",
    Counter "roost:bans" "bans imposed",
    Counter "roost:pike_dropped" "requests dropped: their address sends too many (pike)",
    Counter "roost:scanners_dropped" "requests dropped by pike.drop_user_agents",
    Counter "roost:strangers_full" "requests refused: too many unknown names are looked up"
        lost "因同时查询的未知名称过多而拒绝的请求",
    Counter "roost:credential_loads" "look-ups of a subscriber in the database",
    Counter "roost:commits" "changes of bindings given to the database",
    Counter "roost:commit_failures" "changes that it did not take"
        lost "数据库未能保存的变更",
    Counter "roost:commit_conflicts" "REGISTERs that were planned again: another node had changed the extension's record",
    Counter "roost:record_reads" "records of extensions that were read from the store that nodes share",
    Gauge "roost:commits_in_flight" "changes that it has not answered yet",
    Counter "roost:absorbed_retransmissions" "retransmissions that needed no work",
    Counter "roost:handed_over" "messages handed over to another worker",
    Counter "roost:parked_full" "requests refused: too many wait"
        lost "因等待数据库或域名解析的请求过多而拒绝的请求",
    Counter "roost:loading_full" "requests refused: too many wait for the table to be read"
        lost "因等待读表的请求过多而拒绝的请求",
    Counter "roost:commits_full" "requests refused: too many changes in flight"
        lost "因未完成的变更过多而拒绝的请求",
    Counter "roost:nonces_full" "requests refused: too many nonces in use"
        lost "因使用中的 nonce 过多而拒绝的请求",
    Counter "roost:waiting_full" "requests refused: too many wait for one extension"
        lost "因等待同一分机的请求过多而拒绝的请求",
    Counter "roost:too_many_contacts" "REGISTERs refused by max_contacts",
    Counter "roost:inbox_full" "messages dropped: another worker's inbox was full"
        lost "因另一工作线程的收件队列已满而丢弃的消息",
    Counter "roost:shed" "datagrams dropped under overload"
        lost "过载时丢弃的数据报",
    Counter "roost:transactions_full" "requests refused: too many transactions"
        lost "因事务过多而拒绝的请求",
    Counter "roost:resolving_full" "requests refused: too many names are looked up"
        lost "因同时解析的域名过多而拒绝的请求",
    Counter "roost:credentials_late" "requests refused: the database did not answer in time",
    Counter "roost:unread_late" "requests refused: the table was not read in time",
    Counter "roost:resolving_late" "branches given up: no name server answered in time",
    Counter "roost:admin_full" "operators' requests refused: too many wait"
        lost "因等待的管理请求过多而拒绝的管理请求",
    Counter "roost:doubts_full" "REGISTERs refused: too many outcomes of the database are unknown"
        lost "因结果未知的数据库变更过多而拒绝的 REGISTER",
    Counter "roost:forgotten_evicted" "extensions in doubt that were forgotten to make room",
    Counter "roost:held_full" "requests refused: too many bindings of one extension in memory"
        lost "因内存中同一分机的绑定过多而拒绝的请求",
    Counter "roost:branches_cut" "calls that went to fewer contacts than there were: too many",
    Counter "roost:places_cut" "calls that went to fewer next hops than there were: too many",
    Counter "roost:pings" "pings of next hops sent",
    Counter "roost:calls_full" "calls without an entry: too many"
        lost "因呼叫过多而未登记的呼叫",
    Counter "roost:unsent" "messages that could not be sent",
    Gauge "roost:transaction_bytes" "memory of transactions; bytes",
    Counter "roost:contact_places_full" "bindings that stand apart: their numbers were taken"
        lost "因编号已被占用而单独存放的绑定",
    Gauge "roost:loading" "workers that still read the table",
    Counter "roost:recent_evicted" "admitted callers that were forgotten to make room",
    Gauge "roost:agents_with_calls" "extensions with calls",
    Gauge "roost:parked" "requests that wait for the database or a name",
    Gauge "roost:resolving" "names that are looked up",
    Counter "roost:secrets_evicted" "cached passwords that were forgotten to make room",
    Counter "roost:unknown_evicted" "cached unknown names that were forgotten to make room",
    Gauge "roost:suspects" "addresses and extensions with failures",
    Counter "roost:suspects_evicted" "of these, forgotten to make room",
    Counter "roost:buckets_evicted" "counts of pike that were forgotten to make room",
    Gauge "roost:inbox_waiting" "messages that wait in the workers' inboxes",
    Counter "roost:events_lost" "events that nobody was told: too many at once",
}

/// The entry of a statistic by its name; a thread's number in it counts as `N`.
pub(crate) fn entry(name: &str) -> Option<&'static Statistic> {
    let find = |name: &str| STATISTICS.iter().find(|statistic| statistic.name == name);
    find(name).or_else(|| {
        let (group, bare) = name.split_once(':')?;
        let numbered = match group {
            "load" => {
                let (what, number) = bare.rsplit_once('-')?;
                number.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("load:{what}-N"))
            }
            "pkmem" => bare.split_once('-').map(|(_, what)| format!("pkmem:N-{what}")),
            _ => None,
        };
        find(&numbered?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_was_reached_is_told() {
        for statistic in STATISTICS.iter().filter(|statistic| statistic.name.ends_with("_full")) {
            assert!(statistic.lost.is_some(), "{} says in no language what was lost", statistic.name);
        }
    }
}
