//! Challenges (RFC 3261 22, RFC 7616 3.3): one header for each algorithm that is offered.

use crate::auth::nonce::write_nonce;
use crate::contract::context::Ctx;
use crate::contract::identity::Identity;
use crate::contract::policy::{Algorithm, AuthParams};
use crate::contract::reason::Kind;
use crate::message::request::Request;
use crate::message::response::Response;

/// What challenges are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Challenger<'a> {
    identity: &'a Identity,
    auth: &'a AuthParams,
    unix_s: u64,
}

impl<'a> Challenger<'a> {
    pub(crate) fn of(ctx: &Ctx<'a>) -> Challenger<'a> {
        Challenger { identity: ctx.identity, auth: &ctx.policy.auth, unix_s: ctx.now.unix_s }
    }

    /// Appends the challenges of a response that is one. The nonce is the same for a retransmission of the request within
    /// a second.
    pub(crate) fn write(&self, request: &Request<'_>, response: &Response, realm: &[u8], out: &mut Vec<u8>) {
        let name: &[u8] = if response.code == 407 { b"Proxy-Authenticate" } else { b"WWW-Authenticate" };
        let [_, _, _, _, _, _, _, _, own @ .., _, _, _, _] = request.mac(&self.identity.mac_key);
        for algorithm in &self.auth.algorithms {
            out.extend_from_slice(name);
            out.extend_from_slice(b": Digest realm=\"");
            out.extend_from_slice(realm);
            out.extend_from_slice(b"\", nonce=\"");
            let expires_unix_s = self.unix_s + u64::from(self.auth.nonce_expire_s);
            let key = self.identity.nonce_keys(self.auth).first().unwrap_or(&self.identity.mac_key);
            write_nonce(key, expires_unix_s, own, out);
            out.push(b'"');
            if self.auth.qop_auth {
                out.extend_from_slice(b", qop=\"auth\"");
            }
            if response.kind == Kind::Stale {
                out.extend_from_slice(b", stale=true");
            }
            // Old phones know the MD5 challenge of OpenSIPS, which names no algorithm.
            if self.auth.algorithms.len() > 1 || *algorithm != Algorithm::Md5 {
                out.extend_from_slice(b", algorithm=");
                out.extend_from_slice(algorithm.as_str().as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}
