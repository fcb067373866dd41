//! The tables that nodes have beside OpenSIPS's.

use crate::client::Client;
use crate::database::Database;
use crate::error::StoreError;

/// Makes those that are missing, and says what nodes should know of the server.
pub(super) fn make(database: &Database, client: &mut Client) -> Result<(), StoreError> {
    let there = database.tables(client)?;
    let [big, text, end] = match database {
        Database::Postgres(_) => ["BIGINT", "VARCHAR", ""],
        _ => ["BIGINT UNSIGNED", "VARCHAR", " ENGINE=InnoDB"],
    };
    let flow = format!(
        "CREATE TABLE IF NOT EXISTS roost_flow (contact_id {big} PRIMARY KEY NOT NULL, node {text}(64) NOT NULL, \
         route {text}(255) NOT NULL){end}"
    );
    let node = format!(
        "CREATE TABLE IF NOT EXISTS roost_node (name {text}(64) PRIMARY KEY NOT NULL, seen_ms BIGINT NOT NULL, \
         told TEXT NOT NULL){end}"
    );
    let [counted, long] = match database {
        Database::Postgres(_) => ["BIGSERIAL PRIMARY KEY", "TEXT"],
        _ => ["BIGINT AUTO_INCREMENT PRIMARY KEY", "MEDIUMTEXT"],
    };
    let said = format!(
        "CREATE TABLE IF NOT EXISTS roost_said (id {counted} NOT NULL, node {text}(64) NOT NULL, told {long} NOT NULL){end}"
    );
    for (name, sql) in [("roost_flow", flow), ("roost_node", node), ("roost_said", said)] {
        if !there.iter().any(|table| table.eq_ignore_ascii_case(name)) {
            client.run(&sql).map_err(StoreError::sql(
                "making the tables of nodes (roost_flow, roost_node, roost_said)",
            ))?;
        }
    }
    if let (Database::MySql(_), Ok(Some(_))) =
        (database, client.one("SHOW GLOBAL VARIABLES WHERE Variable_name = 'wsrep_on' AND Value = 'ON'", &[]))
    {
        tracing::warn!(
            "the database is a Galera cluster: its locks hold on one member alone, so let all nodes write to the same one"
        );
    }
    Ok(())
}
