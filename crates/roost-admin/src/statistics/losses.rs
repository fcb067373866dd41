//! Statistics that only grow when a limit was reached or something was lost, and what they mean in Chinese; in English the table
//! of statistics says it.

/// Names and meanings.
const LOSSES: &[(&str, &str)] = &[
    ("net:tcp_closed_garbage", "因内容不是 SIP 而关闭的连接，例如在 tcp: 端口上使用 TLS 或 WebSocket"),
    ("net:tcp_memory_full", "因连接占用内存过多而丢弃的消息"),
    ("net:tcp_inbox_full", "因工作线程的收件队列已满而丢弃的消息"),
    ("acc:lost", "因达到 acc.journal_max 而丢失的话单"),
    ("acc:journal_failures", "呼叫日志写入失败的次数"),
    ("webhook:lost", "webhook 丢失的事件"),
    ("hep:lost", "采集端未及时接收的消息"),
    ("roost:strangers_full", "因同时查询的未知名称过多而拒绝的请求"),
    ("roost:commit_failures", "数据库未能保存的变更"),
    ("roost:parked_full", "因等待数据库或域名解析的请求过多而拒绝的请求"),
    ("roost:loading_full", "因等待读表的请求过多而拒绝的请求"),
    ("roost:commits_full", "因未完成的变更过多而拒绝的请求"),
    ("roost:nonces_full", "因使用中的 nonce 过多而拒绝的请求"),
    ("roost:waiting_full", "因等待同一分机的请求过多而拒绝的请求"),
    ("roost:inbox_full", "因另一工作线程的收件队列已满而丢弃的消息"),
    ("roost:shed", "过载时丢弃的数据报"),
    ("roost:transactions_full", "因事务过多而拒绝的请求"),
    ("roost:resolving_full", "因同时解析的域名过多而拒绝的请求"),
    ("roost:admin_full", "因等待的管理请求过多而拒绝的管理请求"),
    ("roost:doubts_full", "因结果未知的数据库变更过多而拒绝的 REGISTER"),
    ("roost:held_full", "因内存中同一分机的绑定过多而拒绝的请求"),
    ("roost:calls_full", "因呼叫过多而未登记的呼叫"),
    ("roost:contact_places_full", "因编号已被占用而单独存放的绑定"),
];

/// What a loss means in Chinese; `None`: this statistic is none.
pub(super) fn chinese(name: &str) -> Option<&'static str> {
    LOSSES.iter().find(|(own, _)| *own == name).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::table;

    #[test]
    fn every_limit_is_a_loss_and_every_loss_is_a_statistic() {
        for (name, _) in LOSSES {
            assert!(table::entry(name).is_some(), "{name}");
        }
        for entry in table::STATISTICS.iter().filter(|entry| entry.name.ends_with("_full")) {
            assert!(chinese(entry.name).is_some(), "{} has no Chinese", entry.name);
        }
    }
}
