//! The phone's half of digest authentication, for `roost try`.

use roost_sip::{Credentials, Head, HeaderName};

use crate::auth::digest::{QopAuth, ha1, response};
use crate::contract::policy::Algorithm;
use crate::contract::preview::Signer;
use crate::contract::subscriber::Secrets;

/// A password that nobody has.
const PRESUMED: &[u8] = b"presumed";

/// What a 401 or 407 asks for.
pub(crate) struct Challenge {
    header: &'static str,
    algorithm: Algorithm,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    has_qop: bool,
}

impl Challenge {
    /// The first challenge of a response.
    pub(crate) fn of(answer: &[u8]) -> Option<Challenge> {
        let mut head = Head::new();
        head.parse(answer).ok()?;
        let names = [
            (HeaderName::WwwAuthenticate, "Authorization"),
            (HeaderName::ProxyAuthenticate, "Proxy-Authorization"),
        ];
        let found = names.into_iter().find_map(|(name, header)| Some((head.value(answer, name)?, header)));
        let (value, header) = found?;
        // A challenge is written as credentials are.
        let asked = Credentials::parse(value).ok()?;
        let named = asked.algorithm.unwrap_or(b"MD5");
        let algorithms = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512Trunc256];
        Some(Challenge {
            header,
            algorithm: algorithms
                .into_iter()
                .find(|one| one.as_str().as_bytes().eq_ignore_ascii_case(named))?,
            realm: asked.realm?.to_vec(),
            nonce: asked.nonce?.to_vec(),
            has_qop: asked.qop.is_some_and(|qop| !qop.is_empty()),
        })
    }

    /// The request again, with credentials behind its first line.
    pub(crate) fn sign(&self, request: &[u8], signer: &Signer) -> Vec<u8> {
        let line_end = request.windows(2).position(|pair| pair == b"\r\n").map_or(0, |at| at + 2);
        let (line, rest) = request.split_at(line_end);
        let mut words = line.split(|byte| *byte == b' ');
        let (method, uri) = (words.next().unwrap_or(&[]), words.next().unwrap_or(&[]));
        let secret = self.ha1_of(signer);
        let qop = QopAuth { nc: b"00000001", cnonce: b"preview", qop: b"auth" };
        let qop = self.has_qop.then_some(qop);
        let hash = response(self.algorithm, secret.as_bytes(), &self.nonce, qop, method, uri);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let counted = if self.has_qop { ", qop=auth, nc=00000001, cnonce=\"preview\"" } else { "" };
        let credentials = format!(
            "{}: Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{}\", algorithm={}{counted}\r\n",
            self.header,
            text(&signer.username),
            text(&self.realm),
            text(&self.nonce),
            text(uri),
            text(hash.as_bytes()),
            self.algorithm.as_str(),
        );
        [line, credentials.as_bytes(), rest].concat()
    }

    /// The row of somebody whose password is the one that is presumed.
    pub(crate) fn secrets_of(&self, signer: &Signer, calculate_ha1: bool) -> Secrets {
        let hash = self.ha1_of(signer).as_bytes().to_vec().into_boxed_slice();
        match calculate_ha1 {
            true => Secrets { password: PRESUMED.into(), ..Secrets::default() },
            false => Secrets {
                password: hash.clone(),
                password_2: hash.clone(),
                sha256: hash.clone(),
                sha512t256: hash,
            },
        }
    }

    fn ha1_of(&self, signer: &Signer) -> crate::base::hex::Hex {
        let password = signer.password.as_deref().unwrap_or(PRESUMED);
        ha1(self.algorithm, &signer.username, &self.realm, password)
    }
}
