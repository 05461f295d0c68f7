//! JSON-RPC over HTTP, with a bound on what an endpoint may answer: alloy's own transport reads whatever comes into memory.

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use reqwest::Client;
use tower::Service;
use url::Url;

/// Longest answer, bytes. The logs of a page of blocks take a small part of it.
pub(super) const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Longest part of an answer that is no JSON which goes into an error, bytes.
const MAX_SHOWN: usize = 512;

/// A transport to `url`.
pub(super) fn bounded(
    client: Client,
    url: Url,
) -> impl Service<RequestPacket, Response = ResponsePacket, Error = TransportError, Future = TransportFut<'static>> + Clone
{
    tower::service_fn(move |request: RequestPacket| -> TransportFut<'static> {
        Box::pin(ask(client.clone(), url.clone(), request))
    })
}

async fn ask(client: Client, url: Url, request: RequestPacket) -> TransportResult<ResponsePacket> {
    let sent = client.post(url).headers(request.headers()).json(&request).send().await;
    let mut answer = sent.map_err(TransportErrorKind::custom)?;
    let (status, mut body) = (answer.status(), Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(TransportErrorKind::custom)? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Err(TransportErrorKind::custom_str(&format!("the answer is longer than {MAX_ANSWER} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    match serde_json::from_slice(&body) {
        // What an endpoint says in JSON counts, whatever status it gives it.
        Ok(packet) => Ok(packet),
        Err(_) if !status.is_success() => Err(TransportErrorKind::http_error(status.as_u16(), shown(&body))),
        Err(error) => Err(TransportError::deser_err(error, shown(&body))),
    }
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..MAX_SHOWN).unwrap_or(body)).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::super::{Endpoint, ask};

    /// An endpoint of one connection; `answer` writes what comes after the status line.
    fn endpoint(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> url::Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            answer(&mut stream);
        });
        url.parse().unwrap()
    }

    async fn chain_id(url: &url::Url) -> Result<u64, crate::ChainError> {
        use alloy::providers::Provider as _;
        let endpoint = Endpoint::connect(url).await.unwrap();
        ask("reading the chain id", async { endpoint.provider().get_chain_id().await }).await
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_cut_off() {
        let (tell, told) = std::sync::mpsc::channel();
        let url = endpoint(move |stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n\"");
            let piece = vec![b'a'; 1024 * 1024];
            let mut sent = 0_usize;
            while stream.write_all(&piece).is_ok() && sent < 8 * super::MAX_ANSWER {
                sent += piece.len();
            }
            tell.send(sent).unwrap();
        });
        let error = chain_id(&url).await.unwrap_err().to_string();
        assert!(error.contains("longer than"), "{error}");
        // What the sockets still hold comes on top.
        let sent = tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap();
        assert!(sent < 2 * super::MAX_ANSWER, "{sent} bytes");
    }

    #[tokio::test]
    async fn an_answer_is_read_in_pieces_and_an_error_in_json_counts_with_any_status() {
        let whole = r#"{"jsonrpc":"2.0","id":0,"result":"0x7a69"}"#;
        let url = endpoint(move |stream| {
            let (one, two) = whole.split_at(20);
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{one}", whole.len()).unwrap();
            stream.flush().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
            stream.write_all(two.as_bytes()).unwrap();
        });
        assert_eq!(chain_id(&url).await.unwrap(), 31_337);

        let refusal = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":"no such method here"}}"#;
        let url = endpoint(move |stream| {
            write!(stream, "HTTP/1.1 400 Bad\r\ncontent-length: {}\r\n\r\n{refusal}", refusal.len()).unwrap();
        });
        let error = chain_id(&url).await.unwrap_err().to_string();
        assert!(error.contains("no such method here"), "{error}");

        let url = endpoint(|stream| write!(stream, "HTTP/1.1 502 Bad\r\ncontent-length: 4\r\n\r\n<p/>").unwrap());
        let error = chain_id(&url).await.unwrap_err().to_string();
        assert!(error.contains("502"), "{error}");
    }
}
