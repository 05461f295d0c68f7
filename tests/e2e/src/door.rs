//! A door between a program and an RPC endpoint: bytes pass unread, and where it leads can change while the program
//! runs. What is behind it is always a real chain.

use eyre::{Context, Result, eyre};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// An open door; it stays open until the process ends.
#[derive(Debug)]
pub struct Door {
    /// What the program is told to connect to.
    pub url: String,
    way: Arc<Mutex<Way>>,
}

#[derive(Debug)]
struct Way {
    to: SocketAddr,
    open: Vec<TcpStream>,
}

impl Door {
    /// A door on a free port of 127.0.0.1 that leads to `url`, `http://ADDRESS:PORT`.
    pub fn to(url: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let own = format!("http://{}", listener.local_addr()?);
        let way = Arc::new(Mutex::new(Way { to: address(url)?, open: Vec::new() }));
        let ways = Arc::clone(&way);
        std::thread::spawn(move || {
            for inside in listener.incoming().map_while(Result::ok) {
                // Nobody there: the connection is closed, as a dead endpoint's would be.
                let _ = let_through(&inside, &ways);
            }
        });
        Ok(Self { url: own, way })
    }

    /// From now on it leads to `url`; connections through it end.
    pub fn lead_to(&self, url: &str) -> Result<()> {
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        way.to = address(url)?;
        for stream in way.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        Ok(())
    }
}

fn address(url: &str) -> Result<SocketAddr> {
    let address = url.strip_prefix("http://").ok_or_else(|| eyre!("{url} is not http://ADDRESS:PORT"))?;
    address.trim_end_matches('/').parse().wrap_err_with(|| format!("{url} is not http://ADDRESS:PORT"))
}

fn let_through(inside: &TcpStream, ways: &Mutex<Way>) -> Result<()> {
    let mut way = ways.lock().unwrap_or_else(PoisonError::into_inner);
    let outside = TcpStream::connect(way.to)?;
    way.open.extend([inside.try_clone()?, outside.try_clone()?]);
    for (mut from, mut to) in [(inside.try_clone()?, outside.try_clone()?), (outside, inside.try_clone()?)] {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
