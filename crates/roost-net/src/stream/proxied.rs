//! The PROXY protocol (versions 1 and 2): a balancer says at the beginning of a connection whose it is.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Bytes of a header at most.
const MAX_HEADER: usize = 4_096;

/// Reads the header, and no byte more; the address that it names, or the balancer's own where the connection is its own.
///
/// # Errors
/// There is no sound header.
pub(super) async fn source(stream: &mut TcpStream, balancer: SocketAddr) -> io::Result<SocketAddr> {
    let mut bytes = vec![0; MAX_HEADER];
    let mut seen = 0;
    loop {
        let count = stream.peek(&mut bytes).await?;
        let result = HeaderResult::parse(&bytes[..count]);
        if result.is_complete() {
            let (length, source) = read(&result).ok_or(io::ErrorKind::InvalidData)?;
            stream.read_exact(&mut bytes[..length]).await?;
            return Ok(source.unwrap_or(balancer));
        }
        if count == 0 || count == MAX_HEADER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if count == seen {
            // What is there is ready to be read: only time brings the rest.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        seen = count;
    }
}

/// How long a whole header is, and whom it names.
fn read(result: &HeaderResult<'_>) -> Option<(usize, Option<SocketAddr>)> {
    match result {
        HeaderResult::V1(Ok(header)) => {
            let source = match header.addresses {
                v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
                v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
                v1::Addresses::Unknown => None,
            };
            Some((header.header.len(), source))
        }
        HeaderResult::V2(Ok(header)) => {
            let source = match header.addresses {
                _ if header.command == v2::Command::Local => None,
                v2::Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
                v2::Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
                _ => None,
            };
            Some((header.header.len(), source))
        }
        _ => None,
    }
}
