//! `roost db copy` and `roost db backup`: rows move between databases, and none is lost.

use std::fs;

use crate::support::{Database, Kind, Server};
use serde_json::Value;

fn copied(server: &Server, from: &str, to: &str) -> Value {
    let said = server.succeed(&["--json", "db", "copy", from, to]);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn subscribers_and_bindings_go_from_one_kind_to_the_other_and_back() {
    let lists = "[alias_db]\ntable = \"dbaliases\"\n[permissions]\naddress_table = \"address\"\n";
    let mut server = Server::prepared_on(Kind::Sqlite, "use_domain = true", lists);
    server.start();
    for number in 0..700 {
        // More than are copied at once, in two domains.
        if number % 100 == 0 {
            server.succeed(&["user", "add", &format!("{number}@a.example"), "secret"]);
        }
    }
    let users: String = (1_000..2_200).map(|user| format!("{user},p{user},b.example\n")).collect();
    fs::write(server.path("users.csv"), format!("username,password,domain\n{users}")).expect("a file");
    server.succeed(&["user", "import", &server.path("users.csv").display().to_string()]);
    let mut phone = server.phone("100");
    phone.password = "secret".to_string();
    phone.domain = "a.example".to_string();
    assert_eq!(phone.register(300).line(), "200 OK");
    assert_eq!(server.stop(), Some(0));
    // The tables that are read whole.
    server.sql(
        "INSERT INTO dbaliases (alias_username, alias_domain, username, domain) \
         VALUES ('4001', 'a.example', '100', 'a.example'), ('4002', 'a.example', '100', 'a.example')",
    );
    server.sql("INSERT INTO address (grp, ip, mask) VALUES (1, '10.1.0.0', 16)");

    let here = format!("sqlite:{}", server.path("roost.db").display());
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let database = Database::start(kind);
        for round in 0..2 {
            let all = copied(&server, &here, &database.url());
            assert_eq!(
                (&all[0]["table"], &all[0]["copied"]),
                (&"subscriber".into(), &1_207.into()),
                "{round}: {all}"
            );
            assert_eq!((&all[1]["table"], &all[1]["copied"]), (&"location".into(), &1.into()), "{all}");
            assert_eq!(all[0]["source"], all[0]["target"], "{kind:?}");
            assert_eq!(all[1]["source"], all[1]["target"], "{kind:?}");
            assert_eq!((&all[2]["table"], &all[2]["copied"]), (&"dbaliases".into(), &2.into()), "{all}");
            assert_eq!((&all[3]["table"], &all[3]["copied"]), (&"address".into(), &1.into()), "{all}");
            assert!(all[2]["source"] == all[2]["target"] && all[3]["source"] == all[3]["target"], "{all}");
        }
        server.replace_in_config("sqlite:roost.db", &database.url());
        server.start();
        let known = server.mi("address_dump", Value::Null).expect("what is known");
        assert_eq!(
            (&known["Aliases"], &known["Networks"][0]),
            (&2.into(), &"10.1.0.0/16".into()),
            "{kind:?}"
        );
        assert_eq!(server.stop(), Some(0));
        server.replace_in_config(&database.url(), "sqlite:roost.db");
        // And back, into another file, with which the phones are served.
        let back = format!("sqlite:{}", server.path(&format!("back-{kind:?}.db")).display());
        let all = copied(&server, &database.url(), &back);
        assert_eq!(
            (&all[0]["target"]["rows"], &all[1]["target"]["rows"]),
            (&1_207.into(), &1.into()),
            "{all}"
        );
        server.replace_in_config("sqlite:roost.db", &back);
        server.start();
        assert!(server.succeed(&["ul", "show", "100@a.example"]).contains("AOR:: 100@a.example"));
        assert_eq!(phone.register(300).line(), "200 OK");
        assert_eq!(server.stop(), Some(0));
        server.replace_in_config(&back, "sqlite:roost.db");
    }
    let ran = server.roost(&["db", "copy", &here, &here]);
    assert!(ran.code == Some(1) && ran.stderr.contains("are one database"), "{}", ran.stderr);
}

#[test]
fn a_backup_of_a_server_that_runs_is_whole() {
    let mut server = Server::prepared_on(Kind::Sqlite, "", "");
    server.add_users(9001, 50);
    server.start();
    let mut phones: Vec<_> = (9001..9051).map(|user| server.phone(&user.to_string())).collect();
    for phone in &mut phones {
        assert_eq!(phone.register(300).line(), "200 OK");
    }
    let file = server.path("backup.db");
    let name = file.display().to_string();
    let said = server.succeed(&["db", "backup", &name]);
    assert!(said.contains("checked"), "{said}");
    let copy = rusqlite::Connection::open(&file).expect("a database");
    let rows = |table: &str| -> i64 {
        copy.query_row(&format!("SELECT COUNT(*) FROM {table}"), [], |row| row.get(0)).expect("a count")
    };
    assert_eq!((rows("subscriber"), rows("location")), (50, 50));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    // What is there is not written over.
    let ran = server.roost(&["db", "backup", &name]);
    assert!(ran.code == Some(1) && ran.stderr.contains("backup.db"), "{}", ran.stderr);
    let nowhere = server.path("none/backup.db").display().to_string();
    let ran = server.roost(&["db", "backup", &nowhere]);
    assert!(ran.code == Some(1) && ran.stderr.contains("cannot"), "{}", ran.stderr);
}

#[test]
fn extensions_go_out_as_a_csv_file_that_comes_in_again() {
    let mut server = Server::prepared("", "");
    server.add_users(9001, 3);
    server.start();
    let file = server.path("users.csv");
    let file = file.to_str().expect("a path");
    assert!(server.succeed(&["user", "export", file]).contains("3 extensions"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).expect("it").permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds passwords");
    let text = std::fs::read_to_string(file).expect("the file");
    assert!(text.starts_with("username,domain,password\n9001,"), "{text}");
    assert_eq!(server.succeed(&["user", "export", "-"]).trim_end(), text.trim_end());
    assert!(server.roost(&["user", "export", file]).stderr.contains("cannot make"), "it is not written over");
    server.succeed(&["user", "rm", "9002"]);
    server.succeed(&["user", "import", "--replace", file]);
    assert_eq!(server.registered("9002").query().line(), "200 OK");
}
