//! The FIFO (OpenSIPS's module mi_fifo): a named pipe that commands are written to; each names another that takes its answer.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::Mode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::Semaphore;

use crate::Mi;
use crate::mi::answer;
use crate::mi::request::{Progress, Request, read};

/// The largest request, in bytes.
const MAX_REQUEST: usize = 64 << 10;
/// How long the rest of a request may take, and how long a client may take to read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that are written at once; further requests wait.
const AT_ONCE: usize = 16;

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fifo {
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// Where clients make theirs.
    pub reply_folder: PathBuf,
}

/// A FIFO that is open; its file goes with it.
#[derive(Debug)]
pub struct MiFifo {
    fifo: Fifo,
    receiver: pipe::Receiver,
}

impl MiFifo {
    /// Makes the file, in place of one that is left, and opens it.
    ///
    /// # Errors
    /// When something else stands there, or it cannot be made.
    pub fn open(fifo: &Fifo) -> io::Result<MiFifo> {
        let path = &fifo.path;
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_fifo() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::other("there is a file of that name that is no FIFO")),
            Err(_) => {}
        }
        nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600))?;
        // Whatever the umask says.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(fifo.mode))?;
        // Open for both, it never ends when its last writer goes.
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(path)?;
        Ok(MiFifo { fifo: fifo.clone(), receiver })
    }

    /// Serves it, for ever.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn serve(mut self, mi: Mi) -> io::Result<()> {
        let (mut bytes, at_once) = (Vec::new(), std::sync::Arc::new(Semaphore::new(AT_ONCE)));
        loop {
            let mut room = [0; 4096];
            let read_some = self.receiver.read(&mut room);
            let len = match bytes.is_empty() {
                true => read_some.await?,
                // What is begun must end.
                false => match tokio::time::timeout(PATIENCE, read_some).await {
                    Ok(len) => len?,
                    Err(_) => {
                        tracing::debug!(
                            bytes = bytes.len(),
                            "mi_fifo: a request does not end, and is forgotten"
                        );
                        bytes.clear();
                        continue;
                    }
                },
            };
            bytes.extend_from_slice(room.get(..len).unwrap_or(&[]));
            loop {
                match read(&bytes, false) {
                    Progress::Whole(request, len) => {
                        bytes.drain(..len.min(bytes.len()));
                        let Ok(permit) = std::sync::Arc::clone(&at_once).acquire_owned().await else {
                            continue;
                        };
                        let (mi, folder) = (mi.clone(), self.fifo.reply_folder.clone());
                        tokio::spawn(async move {
                            if let Err(error) = reply(&mi, &folder, &request).await {
                                tracing::debug!(%error, reply = request.reply, "mi_fifo: nobody takes the answer");
                            }
                            drop(permit);
                        });
                    }
                    Progress::Skip(len) => drop(bytes.drain(..len.min(bytes.len()))),
                    Progress::Part => break,
                }
            }
            if bytes.len() > MAX_REQUEST {
                tracing::debug!("mi_fifo: a request is too long, and is forgotten");
                bytes.clear();
            }
        }
    }
}

impl Drop for MiFifo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.fifo.path);
    }
}

async fn reply(mi: &Mi, folder: &Path, request: &Request) -> io::Result<()> {
    let Some(mut parts) = answer(mi, request).await else { return Ok(()) };
    if request.reply.is_empty() {
        return Ok(());
    }
    // A name that leads elsewhere is nobody's FIFO.
    if request.reply.contains('/') || request.reply.starts_with('.') {
        return Err(io::Error::other("the reply's name is a path"));
    }
    let mut sender = open_reply(&folder.join(&request.reply)).await?;
    while let Some(part) = parts.recv().await {
        tokio::time::timeout(PATIENCE, sender.write_all(part.as_bytes()))
            .await
            .map_err(|_| io::Error::other("it is not read"))??;
    }
    Ok(())
}

/// Opens a client's FIFO; it may be about to open it, too.
async fn open_reply(path: &Path) -> io::Result<pipe::Sender> {
    let begun = tokio::time::Instant::now();
    loop {
        match pipe::OpenOptions::new().open_sender(path) {
            Ok(sender) => return Ok(sender),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
