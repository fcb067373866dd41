//! Another real phone: a linphonec process, steered by lines on its standard input.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::{Log, PATIENCE, Server, free_port, need, wait_for};

/// A linphonec process; dropping it kills it.
pub struct Linphone {
    process: Child,
    log: Log,
    user: String,
}

impl Linphone {
    /// A phone that has registered over TLS with the server at this address, which must prove that it is `localhost`.
    pub fn registered(server: &Server, at: SocketAddr, user: &str) -> Linphone {
        let folder = server.path(&format!("linphone-{user}"));
        fs::create_dir_all(folder.join(".local/share/linphone")).expect("a folder");
        let (port, authority) = (free_port(), server.path("tls/ca.pem"));
        let config = format!(
            "[sip]\nsip_port=0\nsip_tcp_port=0\nsip_tls_port={port}\nroot_ca={0}\nverify_server_certs=1\nverify_server_cn=1\n\
             use_ipv6=0\nregister_only_when_network_is_up=0\ndefault_proxy=0\n\
             [proxy_0]\nreg_proxy=<sip:localhost:{1};transport=tls>\nreg_identity=sip:{user}@127.0.0.1\nreg_expires=120\n\
             reg_sendregister=1\nreg_route=<sip:localhost:{1};transport=tls;lr>\n\
             [auth_info_0]\nusername={user}\npasswd={user}\nrealm=127.0.0.1\n",
            authority.display(),
            at.port()
        );
        fs::write(folder.join("linphonerc"), config).expect("a file");
        let mut linphone = Command::new(need("linphonec", "linphone-cli"));
        linphone.arg("-c").arg(folder.join("linphonerc")).env("HOME", &folder);
        linphone.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = linphone.spawn().expect("linphonec starts");
        let log = Log::default();
        log.follow(process.stdout.take().expect("a pipe"));
        log.follow(process.stderr.take().expect("a pipe"));
        let mut linphone = Linphone { process, log, user: user.to_owned() };
        // There is no sound card.
        linphone.command("soundcard use files");
        wait_for("linphone's binding", PATIENCE, || {
            let text = server.log.text();
            text.contains(&format!("registered extension={user} ")).then_some(())
        });
        linphone
    }

    /// `call`, `answer`, `terminate` and others.
    pub fn command(&mut self, command: &str) {
        let input = self.process.stdin.as_mut().expect("a pipe");
        writeln!(input, "{command}").and_then(|()| input.flush()).expect("a command sent");
    }

    /// Waits until it has said this so many times.
    pub fn wait_for(&self, text: &str, times: usize) {
        wait_for(&format!("linphone {}: {text}", self.user), PATIENCE, || {
            (self.log.text().matches(text).count() >= times).then_some(())
        });
    }
}

impl Drop for Linphone {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("---- linphone {} said:\n{}----", self.user, self.log.text());
        }
    }
}
