//! TLS by hand: certificates that change while connections live, peers that do not finish, servers that must prove their names.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{
    AnyLine, Dialog, NameServer, PATIENCE, Phone, Server, TLS_SECTION, ack_of_failure, free_port, need,
    phone, reaches, secured, shown_certificate, wait_for,
};

/// A server with `tls:` at this address, and the extensions 9001 and 9002.
fn prepared(top: &str, tls: &str, more: &str) -> (Server, SocketAddr) {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = Server::prepared(top, &format!("{TLS_SECTION}{tls}{more}"));
    server.succeed(&["tls", "new", "localhost"]);
    server.also_listen(&format!("tls:{at}"));
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    (server, at)
}

fn started(top: &str) -> (Server, SocketAddr) {
    let (mut server, at) = prepared(top, "", "");
    server.start();
    (server, at)
}

fn registered(server: &Server, at: SocketAddr, user: &str) -> Phone<AnyLine> {
    let mut phone = phone(AnyLine::open("tls", at, &server.path("tls/ca.pem")), user);
    assert_eq!(phone.register(300).line(), "200 OK");
    phone
}

/// The certificate that the server shows now.
fn shown(server: &Server, at: SocketAddr) -> Vec<u8> {
    shown_certificate(at, &server.path("tls/ca.pem"))
}

#[test]
fn certificates_change_under_open_connections_and_a_broken_pair_changes_nothing() {
    let (server, at) = started("");
    let mut caller = registered(&server, at, "9001");
    let callee = registered(&server, at, "9002");
    let (mut ours, mut theirs) = caller.establish(&callee);
    let first = shown(&server, at);

    // By a command at once.
    server.succeed(&["tls", "new", "localhost", "--replace"]);
    assert_eq!(server.succeed(&["tls", "reload"]), "certificates read anew\n");
    let second = shown(&server, at);
    assert_ne!(first, second);
    assert_eq!(server.succeed(&["tls", "reload"]), "the files hold what is in use already\n");

    // A pair that does not match, a file that is no certificate, one that is gone.
    let (certificate, key) = (server.path("tls/localhost.pem"), server.path("tls/localhost.key"));
    let good = (std::fs::read(&certificate).expect("a file"), std::fs::read(&key).expect("a file"));
    let ca_key = std::fs::read(server.path("tls/ca.key")).expect("a file");
    for (certificate_text, key_text, said) in [
        (Some(&good.0[..]), Some(&ca_key[..]), "do not belong together"),
        (Some(&b"nothing"[..]), Some(&good.1[..]), "holds no certificate in PEM"),
        (Some(&good.0[..]), None, "(`private_key`): No such file"),
    ] {
        for (path, text) in [(&certificate, certificate_text), (&key, key_text)] {
            match text {
                Some(text) => std::fs::write(path, text).expect("a file"),
                None => std::fs::remove_file(path).expect("a file"),
            }
        }
        let ran = server.roost(&["tls", "reload"]);
        assert!(ran.code != Some(0) && ran.stderr.contains(said), "{}", ran.stderr);
        assert_eq!(shown(&server, at), second, "{said}");
    }
    // By itself, where the file is replaced by a link to another.
    std::fs::write(&key, &good.1).expect("a file");
    std::fs::rename(&certificate, server.path("tls/former.pem")).expect("a file");
    server.succeed(&["tls", "new", "localhost", "--replace"]);
    std::fs::rename(&certificate, server.path("tls/next.pem")).expect("a file");
    std::os::unix::fs::symlink("next.pem", &certificate).expect("a link");
    wait_for("the third certificate", Duration::from_secs(25), || {
        (shown(&server, at) != second).then_some(())
    });

    // Those who were connected never noticed.
    caller.send(ours.request("INFO", &[]));
    let received = callee.await_request("INFO");
    callee.answer(&received, "200 OK");
    caller.await_status(200, "INFO");
    callee.send(theirs.request("BYE", &[]));
    caller.await_request("BYE");
    let table = server.succeed(&["tls", "show"]);
    assert!(
        table.contains("localhost") && table.contains(" 82") && table.contains(&at.to_string()),
        "{table}"
    );
}

#[test]
fn a_name_that_is_asked_for_has_its_own_certificate() {
    let domains = "[[tls.domain]]\nserver_domain = \"localhost\"\ncertificate = \"tls/sip.example.com.pem\"\n\
                   private_key = \"tls/sip.example.com.key\"\n";
    let (mut server, at) = prepared("", "", domains);
    server.succeed(&["tls", "new", "sip.example.com", "localhost"]);
    server.start();
    let der = shown(&server, at);
    assert!(der.windows(15).any(|part| part == b"sip.example.com"), "the one for the name");
    let table = server.succeed(&["tls", "show"]);
    assert!(table.contains("sip.example.com, localhost") && table.contains("default"), "{table}");
}

#[test]
fn what_cannot_be_used_is_said_before_the_start() {
    let (server, _) = prepared("", "", "");
    assert!(server.succeed(&["config", "check"]).contains("ok"));
    std::fs::remove_file(server.path("tls/localhost.key")).expect("a file");
    for command in [&["config", "check"][..], &["serve"]] {
        let ran = server.roost(command);
        assert!(
            ran.code == Some(1) && ran.stderr.contains("tls/localhost.key (`private_key`)"),
            "{}",
            ran.stderr
        );
    }
    server.replace_in_config("certificate = \"tls/localhost.pem\"\nprivate_key = \"tls/localhost.key\"", "");
    let ran = server.roost(&["config", "check"]);
    assert!(ran.stderr.contains("there is no certificate: `roost tls new NAME`"), "{}", ran.stderr);
}

#[test]
fn clients_must_show_a_certificate_where_that_is_required() {
    let (mut server, at) = prepared("", "require_cert = true\nca_list = \"tls/ca.pem\"\n", "");
    server.start();
    let mut stream = secured(TcpStream::connect(at).expect("a connection"), &server.path("tls/ca.pem"));
    let _ = stream.write_all(b"\r\n\r\n");
    let mut answer = [0; 10];
    assert!(!matches!(stream.read(&mut answer), Ok(1..)), "no answer without a certificate");
    wait_for("the failure", PATIENCE, || (server.statistic("net:tls_handshakes_failed") == 1).then_some(()));
}

#[test]
fn who_does_not_finish_a_handshake_ends_and_hurts_nobody() {
    let (server, at) = started("tcp_max_msg_time = 2");
    let mut phone = registered(&server, at, "9001");
    let before_kb = server.resident_kb();
    // A beginning of a handshake, nothing, and garbage.
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00];
    let mut silent: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = TcpStream::connect(at).expect("a connection");
            if number % 2 == 0 {
                stream.write_all(&hello).expect("bytes sent");
            }
            stream
        })
        .collect();
    for garbage in
        [&b"OPTIONS sip:a SIP/2.0\r\n\r\n"[..], &[0xff; 3_000], &[0x16, 0x03, 0x01, 0xff, 0xff, 0x00]]
    {
        let mut stream = TcpStream::connect(at).expect("a connection");
        stream.write_all(garbage).expect("bytes sent");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // An alert, perhaps, and the end.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(phone.register(300).line(), "200 OK", "meanwhile");
    let refused = server.statistic("net:handshakes_refused");
    assert!(refused >= 40, "{refused} refused: an address has 256 handshakes at once");
    wait_for("their end", PATIENCE, || (server.statistic("net:tls_connections") == 1).then_some(()));
    assert!(server.statistic("net:tcp_closed_unfinished") >= 200);
    assert_eq!(server.statistic("net:handshakes"), 0);
    registered(&server, at, "9002");
    let _ = silent[0].write_all(b"x");
    assert_eq!(phone.register(300).line(), "200 OK", "and after");
    assert!(server.resident_kb() < before_kb + 8_000, "{} kB, {before_kb} before", server.resident_kb());
}

/// A call over TLS to another server, which must be who its name says.
#[test]
fn a_hop_must_prove_its_name() {
    let dns = NameServer::new();
    dns.a("localhost.example.com", 60, [127, 0, 0, 1]);
    let (mut far, far_at) = prepared("", "", "[proxy]\ntrusted = [\"127.0.0.1\"]\n");
    far.succeed(&["tls", "new", "localhost.example.com", "--folder", "proof"]);
    far.replace_in_config("tls/localhost.pem", "proof/localhost.example.com.pem");
    far.replace_in_config("tls/localhost.key", "proof/localhost.example.com.key");
    far.start();
    let mut callee = far.phone("9002");
    assert_eq!(callee.register(300).line(), "200 OK");
    let port = far_at.port();
    for (ca, hop, expected) in [
        ("proof/ca.pem", format!("sip:localhost.example.com:{port};transport=tls"), 486),
        ("tls/ca.pem", format!("sip:localhost.example.com:{port};transport=tls"), 477),
        ("proof/ca.pem", format!("sip:127.0.0.1:{port};transport=tls"), 477),
    ] {
        let ca = far.path(ca).display().to_string();
        let route = format!(
            "[dispatcher]\nds_ping_interval = 0\n[dns]\nservers = [\"{}\"]\n[[route]]\nuser = \"^9002$\"\noffline = true\nhops = [\"{hop}\"]\n",
            dns.address
        );
        let (mut near, _) = prepared("", &format!("ca_list = \"{ca}\"\n"), &route);
        near.start();
        let mut caller = near.phone("9001");
        assert_eq!(caller.register(300).line(), "200 OK");
        let invite = caller.invite("9002");
        if expected == 486 {
            let received = callee.await_request("INVITE");
            assert!(
                received.headers("Via").iter().any(|via| via.starts_with("SIP/2.0/TLS ")),
                "{}",
                received.text
            );
            callee.answer(&received, "486 Busy Here");
        }
        let answer = caller.await_final("INVITE");
        caller.send(ack_of_failure(&invite, &answer));
        assert_eq!(answer.status(), Some(expected), "{hop}, {ca}");
    }
}

/// An INVITE to a `sips` URI, or of any other scheme that it has before.
fn sips(request: &str) -> String {
    request.replacen(" sip:", " sips:", 1)
}

#[test]
fn sips_goes_over_tls_all_the_way_or_not_at_all() {
    let wss = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (mut server, at) = prepared("", "", "");
    server.also_listen(&format!("wss:{wss}"));
    server.start();
    let authority = server.path("tls/ca.pem");
    for (transport, to) in [("tls", at), ("wss", wss)] {
        let mut caller = registered(&server, at, "9001");
        let mut callee = phone(AnyLine::open(transport, to, &authority), "9002");
        callee.contact = callee.contact.replace("sip:", "sips:").replace(";transport=tls", "");
        assert_eq!(callee.register(300).line(), "200 OK");
        let invite = sips(&caller.initial("INVITE", "9002", &[]));
        caller.send(&invite);
        let received = callee.await_request("INVITE");
        assert_eq!(received.uri(), callee.contact);
        let routes = received.headers("Record-Route");
        assert!(!routes.is_empty() && routes.iter().all(|route| route.starts_with("<sips:")), "{routes:?}");
        callee.answer(&received, "200 OK");
        let ok = caller.await_status(200, "INVITE");
        let (mut ours, mut theirs) = (Dialog::of_caller(&caller, &ok), Dialog::of_callee(&callee, &received));
        caller.send(ours.request("ACK", &[]));
        callee.await_request("ACK");
        reaches(&caller, &callee, &mut ours, "INFO");
        reaches(&callee, &caller, &mut theirs, "INFO");
        // Somebody who has learnt the dialog cannot go on with it in the open.
        let open = Phone::new(server.sip, "9001", "9001");
        open.send(ours.request("INFO", &[]));
        let refused = open.await_final("INFO");
        assert_eq!((refused.line(), refused.header("Warning")), REFUSED);
        reaches(&callee, &caller, &mut theirs, "BYE");
        // In the open from the beginning.
        let mut open = Phone::new(server.sip, "9001", "9001");
        let invite = sips(&open.initial("INVITE", "9002", &[]));
        open.send(&invite);
        let refused = open.await_final("INVITE");
        assert_eq!((refused.line(), refused.header("Warning")), REFUSED);
        open.send(ack_of_failure(&invite, &refused));
        callee.hears_nothing("nothing of it is secret");
        assert_eq!(callee.unregister().line(), "200 OK");
    }
    // The callee's phone is reached in the open only; a call to its sip URI reaches it.
    let mut caller = registered(&server, at, "9001");
    let open = server.registered("9002");
    let invite = sips(&caller.initial("INVITE", "9002", &[]));
    caller.send(&invite);
    let refused = caller.await_final("INVITE");
    assert_eq!((refused.line(), refused.header("Warning")), REFUSED);
    caller.send(ack_of_failure(&invite, &refused));
    open.hears_nothing("a sips URI does not go over UDP");
    caller.invite("9002");
    open.await_request("INVITE");
}

const REFUSED: (&str, Option<&str>) = ("480 Temporarily Unavailable", Some("380 roost \"SIPS Not Allowed\""));

#[test]
fn the_client_of_openssl_trusts_the_certificate_and_is_answered() {
    let (server, at) = started("");
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = Command::new(need("openssl", "openssl"));
        client.args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost", version]);
        client.arg("-CAfile").arg(server.path("tls/ca.pem")).args(["-connect", &at.to_string()]);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().expect("openssl starts");
        let ask = "OPTIONS sip:localhost SIP/2.0\r\nVia: SIP/2.0/TLS 10.1.1.1;branch=z9hG4bKx;rport\r\nFrom: <sip:a@b>;tag=1\r\n\
                   To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        client.stdin.as_mut().expect("a pipe").write_all(ask.as_bytes()).expect("a request");
        let mut answer = [0; 1_000];
        let count = client.stdout.as_mut().expect("a pipe").read(&mut answer).expect("an answer");
        let text = String::from_utf8_lossy(&answer[..count]);
        assert!(text.starts_with("SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS 10.1.1.1;received=127.0.0.1"), "{text}");
        client.kill().expect("its end");
        client.wait().expect("its end");
    }
}
