//! Certificates of an authority of one's own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use chrono::{Datelike as _, Days, NaiveDate, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// How long an authority is good for.
const AUTHORITY_DAYS: u64 = 3_650;
/// And a certificate, where nobody says otherwise.
const DAYS: u64 = 825;

/// Makes a certificate for these names with the usual folder and time, unless there is one already; how the configuration beside
/// which it stands is to name it and its key.
///
/// # Errors
/// It cannot be written.
pub(crate) fn make_for(names: &[String], beside: &Path) -> Result<(String, String)> {
    let files = Files::of(names, Path::new("tls"), beside);
    if !files.certificate.exists() {
        make(&files, names, DAYS, false)?;
    }
    let [certificate, private_key] = files.named;
    Ok((certificate, private_key))
}

/// The files that are written.
pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    authority_key: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
    /// The certificate and its key, as the configuration is to name them.
    named: [String; 2],
}

impl Files {
    /// For a certificate of these names; the folder is beside another one where it is relative.
    pub(crate) fn of(names: &[String], folder: &Path, beside: &Path) -> Files {
        let first = names.first().map_or("roost", String::as_str);
        let stem: String = first
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() || "-._".contains(letter) { letter } else { '_' })
            .collect();
        let named = ["pem", "key"].map(|end| folder.join(format!("{stem}.{end}")).display().to_string());
        let at = |name: &str| beside.join(folder).join(name);
        Files {
            authority: at("ca.pem"),
            authority_key: at("ca.key"),
            certificate: beside.join(&named[0]),
            private_key: beside.join(&named[1]),
            named,
        }
    }

    /// What to do with them.
    pub(crate) fn advice(&self) -> String {
        let [certificate, private_key] = &self.named;
        format!(
            "wrote {} and {}, signed by {}\n\nIn roost.toml:\n\n    listen = [\"udp:0.0.0.0:5060\", \"tcp:0.0.0.0:5060\", \
             \"tls:0.0.0.0:5061\", \"wss:0.0.0.0:8443\"]\n\n    [tls]\n    certificate = \"{certificate}\"\n    \
             private_key = \"{private_key}\"\n\nPhones and browsers that are given {} as a certificate authority \
             trust it. Keep {} to yourself.",
            self.certificate.display(),
            self.private_key.display(),
            self.authority.display(),
            self.authority.display(),
            self.authority_key.display(),
        )
    }
}

/// Makes a certificate, and its authority where there is none.
///
/// # Errors
/// One is there already, or cannot be written.
pub(crate) fn make(files: &Files, names: &[String], days: u64, replace: bool) -> Result<()> {
    if files.certificate.exists() && !replace {
        bail!("there is a certificate {} already; --replace writes over it", files.certificate.display());
    }
    if let Some(folder) = files.authority.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let authority_key = match fs::read_to_string(&files.authority_key) {
        Ok(text) => KeyPair::from_pem(&text)
            .with_context(|| format!("{} holds no private key", files.authority_key.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            write(&files.authority_key, &key.serialize_pem(), 0o600)?;
            write(&files.authority, &authority()?.self_signed(&key)?.pem(), 0o644)?;
            key
        }
        Err(error) => return Err(error).context(format!("cannot read {}", files.authority_key.display())),
    };
    let issuer = Issuer::new(authority()?, authority_key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())
        .with_context(|| format!("{} are no names that a certificate can have", names.join(", ")))?;
    params.distinguished_name = named(names.first().map_or("roost", String::as_str));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    lasts(&mut params, days)?;
    let certificate = params.signed_by(&key, &issuer)?;
    // The key first: a server that looks in between finds a pair that does not match, and keeps its own.
    write(&files.private_key, &key.serialize_pem(), 0o600)?;
    write(&files.certificate, &certificate.pem(), 0o644)
}

/// What our authority is called; its certificate is made of that and its key alone.
fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("roost certificate authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasts(&mut params, AUTHORITY_DAYS)?;
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// From yesterday, as clocks differ.
fn lasts(params: &mut CertificateParams, days: u64) -> Result<()> {
    let today = Utc::now().date_naive();
    let at = |day: Option<NaiveDate>| {
        let day = day.context("a date that no calendar has")?;
        Ok::<_, anyhow::Error>(rcgen::date_time_ymd(day.year(), day.month() as u8, day.day() as u8))
    };
    params.not_before = at(today.checked_sub_days(Days::new(1)))?;
    params.not_after = at(today.checked_add_days(Days::new(days)))?;
    Ok(())
}

/// Writes a file in one step: who reads it meanwhile gets the old one or the new one.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut beside = path.to_path_buf();
    beside.as_mut_os_string().push(".new");
    let _ = fs::remove_file(&beside);
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&beside).with_context(cannot)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(cannot)?;
    fs::rename(&beside, path).with_context(cannot)
}
