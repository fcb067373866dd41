//! A real phone, against the server as the README starts it: baresip registers, stays through a kill -9, leaves.

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Log, PATIENCE, Server, free_port, need, wait_for, wait_for_end};

#[test]
fn baresip_registers_survives_a_kill_and_leaves() {
    need("baresip", "baresip-core");
    let mut server = Server::on_default_ports();
    server.start();
    server.succeed(&["user", "add", "9001", "9001"]);

    let mut phone = Baresip::start(&server);
    // Its Contact is sip:9001-0x55d0c0ffee00@127.0.0.1:PORT.
    let at = format!("@127.0.0.1:{} Q=", phone.sip_port);
    wait_for("baresip in ul show", PATIENCE, || {
        let shown = server.roost(&["ul", "show", "9001"]);
        (shown.code == Some(0) && shown.stdout.contains(&at)).then_some(())
    });

    server.kill9();
    server.start();
    let shown = server.succeed(&["ul", "show", "9001"]);
    assert!(shown.contains(&at) && shown.contains("User-agent:: baresip"), "after kill -9:\n{shown}");

    // It unregisters before it ends, with a nonce that the killed server gave.
    phone.quit();
    wait_for("the end of the binding", PATIENCE, || {
        let shown = server.roost(&["ul", "show", "9001"]);
        (shown.code == Some(1) && shown.stderr.contains("404 AOR not found")).then_some(())
    });
    assert_eq!(server.stop(), Some(0));
}

/// A baresip process; dropping it kills it.
struct Baresip {
    process: Child,
    log: Log,
    sip_port: u16,
    control_port: u16,
}

impl Baresip {
    /// A phone without sound that registers as 9001 and is steered over TCP.
    fn start(server: &Server) -> Baresip {
        let (sip_port, control_port) = (free_port(), free_port());
        let folder = server.path("baresip");
        fs::create_dir(&folder).expect("a folder");
        let config = format!(
            "sip_listen 127.0.0.1:{sip_port}\n\
             module_path /usr/lib/baresip/modules\n\
             module g711.so\n\
             module_app account.so\n\
             module_app menu.so\n\
             module_app ctrl_tcp.so\n\
             ctrl_tcp_listen 127.0.0.1:{control_port}\n"
        );
        let account = format!("<sip:9001@{}>;auth_user=9001;auth_pass=9001;regint=60\n", server.sip);
        fs::write(folder.join("config"), config).expect("its configuration");
        fs::write(folder.join("accounts"), account).expect("its account");

        let mut process = Command::new("baresip")
            .current_dir(&folder)
            .args(["-f", ".", "-t", "120"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("baresip starts");
        let log = Log::default();
        log.follow(process.stdout.take().expect("a pipe"));
        log.follow(process.stderr.take().expect("a pipe"));
        Baresip { process, log, sip_port, control_port }
    }

    /// Ends it as a user would: it unregisters first.
    fn quit(&mut self) {
        let mut control =
            TcpStream::connect(("127.0.0.1", self.control_port)).expect("baresip's control port");
        let command = r#"{"command":"quit"}"#;
        // A netstring.
        write!(control, "{}:{command},", command.len()).expect("a command sent");
        let status = wait_for_end(&mut self.process, Duration::from_secs(15));
        assert_eq!(status.map(|status| status.code()), Some(Some(0)), "baresip's end");
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("---- baresip said:\n{}----", self.log.text());
        }
    }
}
