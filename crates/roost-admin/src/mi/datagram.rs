//! Datagrams (OpenSIPS's module mi_datagram): a request in each, its answer in another.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;

use serde_json::Value;
use tokio::net::{UdpSocket, UnixDatagram};

use crate::Mi;
use crate::mi::request::{Form, Progress, Request, read};
use crate::mi::{answer, reply, text};
use crate::rpc::RpcError;

/// The largest answer that fits a datagram.
const MAX_ANSWER: usize = 65_457;
const MAX_REQUEST: usize = 65_536;

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatagramAddress {
    Udp(SocketAddr),
    /// A file, and its permissions.
    Unix(PathBuf, u32),
}

/// A socket that is open; its file goes with it.
#[derive(Debug)]
pub struct MiDatagram {
    socket: Socket,
    path: Option<PathBuf>,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl MiDatagram {
    /// Opens it; a socket that is left in its place goes.
    ///
    /// # Errors
    /// When something else stands there, or the address is taken.
    pub fn open(address: &DatagramAddress) -> io::Result<MiDatagram> {
        let (socket, path) = match address {
            DatagramAddress::Udp(address) => {
                let socket = std::net::UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                (Socket::Udp(UdpSocket::from_std(socket)?), None)
            }
            DatagramAddress::Unix(path, mode) => {
                match std::fs::symlink_metadata(path) {
                    Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
                    Ok(_) => return Err(io::Error::other("there is a file of that name that is no socket")),
                    Err(_) => {}
                }
                let socket = UnixDatagram::bind(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))?;
                (Socket::Unix(socket), Some(path.clone()))
            }
        };
        Ok(MiDatagram { socket, path })
    }

    /// Serves it, for ever.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn serve(self, mi: Mi) -> io::Result<()> {
        let mut room = vec![0; MAX_REQUEST];
        loop {
            match &self.socket {
                Socket::Udp(socket) => {
                    // An ICMP error is about an earlier answer.
                    let Ok((len, from)) = socket.recv_from(&mut room).await else { continue };
                    if !mi.gate.admits_address(from.ip()) {
                        tracing::debug!(%from, "mi_datagram: a stranger's request dropped");
                        continue;
                    }
                    if let Some(answer) = answer_to(&mi, room.get(..len).unwrap_or(&[])).await {
                        let _ = socket.send_to(answer.as_bytes(), from).await;
                    }
                }
                Socket::Unix(socket) => {
                    let (len, from) = socket.recv_from(&mut room).await?;
                    let answer = answer_to(&mi, room.get(..len).unwrap_or(&[])).await;
                    if let Some((answer, path)) = answer.zip(from.as_pathname()) {
                        // One that is gone, or does not read, has no answer.
                        let _ = socket.try_io(tokio::io::Interest::WRITABLE, || {
                            socket.try_send_to(answer.as_bytes(), path)
                        });
                    }
                }
            }
        }
    }
}

impl Drop for MiDatagram {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What a datagram is answered; an answer that fits none is an error.
async fn answer_to(mi: &Mi, bytes: &[u8]) -> Option<String> {
    let begin = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let Progress::Whole(request, _) = read(bytes.get(begin..)?, true) else { return None };
    let mut parts = answer(mi, &request).await?;
    let mut all = String::new();
    while let Some(part) = parts.recv().await {
        all.push_str(&part);
        if all.len() > MAX_ANSWER {
            return Some(too_long(&request));
        }
    }
    // Nothing marks its end but the datagram's own.
    Some(all.trim_end_matches('\n').to_string() + if request.form == Form::Text { "\n" } else { "" })
}

fn too_long(request: &Request) -> String {
    let data = Some("ask over HTTP or the FIFO".to_string());
    let error = RpcError { data, ..RpcError::new(500, "the answer does not fit a datagram") };
    match request.form {
        Form::Text => text::error(&error),
        Form::Json => {
            let id = request.call.as_ref().ok().and_then(|call| call.id.clone());
            reply(&id.unwrap_or(Value::Null), Err(error))
        }
    }
}
