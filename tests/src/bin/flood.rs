//! Opens many connections and says nothing: the client ends of a flood, in a process of their own.
//!
//! `flood ADDRESS FROM COUNT` connects from the given local address, every second connection asking for a WebSocket. It prints
//! how many it opened, holds them until its stdin ends, and then says how many the server has closed, waiting a little for the last ones.

use std::io::Read as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::process::ExitCode;

use socket2::Domain;
use socket2::Socket;
use socket2::Type;

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: reattach.v1\r\n\r\n";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [address, from, count] = args.as_slice() else { return usage() };
    let (Ok(address), Ok(from), Ok(count)) = (address.parse(), from.parse(), count.parse()) else { return usage() };
    let mut streams: Vec<TcpStream> = (0..count).filter_map(|number| open(address, from, number)).collect();
    println!("{}", streams.len());
    std::io::stdout().flush().expect("somebody reads this");
    _ = std::io::stdin().read_to_end(&mut Vec::new());
    let opened = streams.len();
    // The server may still be seeing the last ones off.
    for _ in 0..100 {
        streams.retain_mut(|stream| !is_closed(stream));
        if streams.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    println!("{}", opened - streams.len());
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: flood ADDRESS FROM COUNT");
    ExitCode::from(2)
}

fn open(address: SocketAddr, from: IpAddr, number: usize) -> Option<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::new(from, 0).into()).ok()?;
    socket.connect(&address.into()).ok()?;
    let mut stream = TcpStream::from(socket);
    if number.is_multiple_of(2) {
        // A server that has had enough may have closed it already.
        _ = stream.write_all(UPGRADE.as_bytes());
    }
    Some(stream)
}

fn is_closed(stream: &mut TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}
