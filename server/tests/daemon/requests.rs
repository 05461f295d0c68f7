//! Requests that are wrong, too many or too large, and connections that are not what they should be: each gets its
//! answer, and the server goes on.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use stkr_node::http::{MAX_BODY_BYTES, ProblemBody};
use stkr_node::tls::{Fingerprint, HandshakeFault, handshake_fault};
use stkr_protocol::api::{EndpointView, View};

use crate::chain::Chain;
use crate::harness::{client, fingerprint, http1_client, raw_connection, run, server_on, spaces};

#[tokio::test]
async fn bad_requests_get_their_status_and_a_reason_and_the_server_goes_on() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    let post = async |path: &str, body: String| {
        let request = client.post(server.url(path)).header("content-type", "application/json").body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        let status = response.status().as_u16();
        let problem: ProblemBody = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert!(!problem.refusal.what_to_do.is_empty());
        (status, problem.refusal.reason)
    };
    for path in ["/v1/sign", "/v1/ceremonies/advance"] {
        assert_eq!(post(path, " ".repeat(MAX_BODY_BYTES + 1)).await.0, 413);
        let (status, reason) = post(path, "{".to_owned()).await;
        assert!(status == 400 && reason.contains("ends before its JSON does"), "{reason}");
        let (status, reason) = post(path, "not json".to_owned()).await;
        assert!(status == 400 && reason.contains("is not JSON"), "{reason}");
        let (status, reason) = post(path, "{\"surprise\":1}".to_owned()).await;
        assert!(status == 400 && reason.contains("unknown field surprise"), "{reason}");
    }
    let (status, reason) =
        post("/v1/sign", "{\"requests\":[{\"type\":\"VOLUNTARY_EXIT\",\"keyId\":\"1\"}]}".to_owned()).await;
    assert!(status == 400 && reason.contains("VOLUNTARY_EXIT"), "{reason}");
    let (status, reason) =
        post("/v1/ceremonies/advance", "{\"keyId\":\"1\",\"attempt\":\"0\",\"messages\":[]}".to_owned()).await;
    assert!(status == 404 && reason.contains("no key 1"), "{status} {reason}");

    let info: serde_json::Value = client.get(server.url("/v1/info")).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        info["signer"].as_str().unwrap().to_lowercase(),
        made.printed["signer"].as_str().unwrap().to_lowercase()
    );
    assert_eq!((&info["serverId"], &info["chainId"]), (&serde_json::Value::Null, &"31337".into()));
}

#[tokio::test]
async fn a_server_tells_its_time_and_what_its_endpoints_show_and_of_a_dead_one_nothing() {
    let mut chain = Chain::start().await;
    let made = server_on(&chain);
    let server = run(&made, &[]);
    let client = client(fingerprint(&made));
    let ask =
        async || -> View { client.get(server.url("/v1/view")).send().await.unwrap().json::<View>().await.unwrap() };
    let now = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let before = now();
    let view = ask().await;
    assert!((before..=now()).contains(&view.time_ms), "{view:?}");
    let [seen] = view.endpoints.as_slice() else { panic!("{view:?}") };
    assert_eq!(seen.genesis.unwrap().number, 0);
    assert!(seen.head.unwrap().number >= seen.finalized.unwrap().number, "{view:?}");
    // Asked at once again it answers from what it saw, and with the time of now.
    assert!(ask().await.time_ms >= view.time_ms);
    chain.stop();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let view = ask().await;
    assert_eq!(view.endpoints, [EndpointView::default()]);
    let text = client.get(server.url("/v1/view")).send().await.unwrap().text().await.unwrap();
    assert!(!text.contains("127.0.0.1"), "no endpoint is named: {text}");
}

#[tokio::test]
async fn a_server_with_another_fingerprint_is_not_talked_to() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    let server = run(&made, &[]);
    let expected = Fingerprint([7; 32]);
    let error = client(expected).get(server.url("/v1/info")).send().await.unwrap_err();
    let presented = fingerprint(&made);
    assert_eq!(handshake_fault(&error), Some(HandshakeFault::WrongFingerprint { expected, presented }));
}

#[tokio::test]
async fn openssl_gets_through_with_tls_1_3_only() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    let server = run(&made, &[]);
    let connect = |version: &str| {
        let output = std::process::Command::new("openssl")
            .args(["s_client", version, "-connect", &server.address.to_string()])
            .args(["-cert", made.dir.join("tls.crt").to_str().unwrap()])
            .args(["-key", made.dir.join("secrets/tls.key").to_str().unwrap()])
            .stdin(std::process::Stdio::null())
            .output();
        match output {
            Ok(output) => {
                Some([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "openssl is needed here: {error}");
                eprintln!("NOT RUN: openssl is not installed");
                None
            }
        }
    };
    let (Some(new), Some(old)) = (connect("-tls1_3"), connect("-tls1_2")) else {
        return;
    };
    assert!(new.contains("TLSv1.3") && new.contains("Server certificate"), "{new}");
    assert!(old.contains("alert protocol version") && !old.contains("Server certificate\n---"), "{old}");
}

#[tokio::test]
async fn a_client_that_sends_too_much_is_told_to_wait_and_another_one_is_served() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    made.edit_config("burst = 200", "burst = 3");
    made.edit_config("requests_per_second = 50", "requests_per_second = 1");
    let server = run(&made, &[]);
    let (greedy, modest) = (client(fingerprint(&made)), client(fingerprint(&made)));
    let mut last = None;
    for _ in 0..20 {
        let response = greedy.get(server.url("/v1/info")).send().await.unwrap();
        last = Some((response.status().as_u16(), response.headers().contains_key("retry-after")));
    }
    assert_eq!(last, Some((429, true)));
    assert_eq!(modest.get(server.url("/v1/info")).send().await.unwrap().status(), 200);
    assert_eq!(greedy.get(server.url("/livez")).send().await.unwrap().status(), 200, "probes are not limited");
}

#[tokio::test]
async fn plain_http_gets_one_and_the_same_answer_whatever_it_asks_and_the_server_goes_on() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    let server = run(&made, &[]);
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("GET /v1/info HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks TLS 1.3 only"), "{answer}");
    for request in [
        "GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /metrics HTTP/1.0\r\n\r\n",
        "POST /v1/sign HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "no protocol at all",
    ] {
        // An answer that depends on nothing tells nothing: not even which paths there are.
        assert_eq!(ask(request), answer, "{request}");
    }
    assert_eq!(client(fingerprint(&made)).get(server.url("/livez")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_that_is_cut_short_is_refused_and_its_connection_is_not_kept() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    made.edit_config("request_seconds = 30", "request_seconds = 1");
    let server = run(&made, &[]);
    let head = "POST /v1/sign HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let declared = format!("{head}content-length: 1000\r\n\r\n{{\"requests\":[");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n1000\r\n{{\"requests\":[");

    for (name, request) in [("declared", &declared), ("chunked", &chunked)] {
        // Our side of the connection ends; the other is still open for the answer.
        let mut connection = raw_connection(&server, &made);
        connection.write_all(request.as_bytes()).unwrap();
        connection.conn.send_close_notify();
        connection.flush().unwrap();
        connection.sock.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let refused = answer.starts_with("HTTP/1.1 400 ") && answer.contains("the request body ended early");
        assert!(refused, "{name}: {answer}");

        // It goes away without a word, with nobody there to be answered.
        let mut connection = raw_connection(&server, &made);
        connection.write_all(request.as_bytes()).unwrap();
        connection.flush().unwrap();
        drop(connection);

        // It stays, and the rest never comes.
        let mut connection = raw_connection(&server, &made);
        connection.write_all(request.as_bytes()).unwrap();
        connection.flush().unwrap();
        let mut answer = [0; 4096];
        let length = connection.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{name}: {answer}");
    }
    let mut connection = raw_connection(&server, &made);
    connection.write_all(&head.as_bytes()[..20]).unwrap();
    connection.flush().unwrap();
    drop(connection);

    // Over HTTP/2 the transport itself compares the declared length with what came.
    let client = client(fingerprint(&made));
    let (body, _) = spaces(10, false);
    let request = client.post(server.url("/v1/sign")).header("content-type", "application/json");
    let error = request.header("content-length", "1000").body(body).send().await.unwrap_err();
    assert!(format!("{error:?}").contains("PROTOCOL_ERROR"), "{error:?}");

    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = client.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
        let open = metrics.lines().find_map(|line| line.strip_prefix("stkr_http_connections ")).unwrap();
        if open == "1" {
            break;
        }
        assert!(Instant::now() < until, "{open} connections are open and one is in use");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_request_of_100_mb_is_refused_with_the_reason_and_costs_no_memory() {
    const SENT: usize = 100_000_000;
    // One body up to the limit, and what the transport holds of the next ones.
    const MAY_GROW: u64 = 6 * 1024 * 1024;
    let chain = Chain::start().await;
    let made = server_on(&chain);
    let server = run(&made, &[]);
    let (http1, http2) = (http1_client(fingerprint(&made)), client(fingerprint(&made)));
    let livez = async |client: &reqwest::Client| client.get(server.url("/livez")).send().await.unwrap().status();
    assert_eq!((livez(&http1).await, livez(&http2).await), (StatusCode::OK, StatusCode::OK));

    let before = server.resident_bytes();
    server.forget_peak();
    for (version, client) in [("HTTP/1.1", &http1), ("HTTP/2", &http2)] {
        for declared in [true, false] {
            for path in ["/v1/sign", "/v1/ceremonies/advance", "/nowhere"] {
                let name = format!("{version} {path}, length declared: {declared}");
                let (body, taken) = spaces(SENT, declared);
                let request = client.post(server.url(path)).header("content-type", "application/json").body(body);
                let response = request.send().await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                // A path that nobody reads a body for says so first, unless the size is known at once.
                let expected = if path == "/nowhere" && !declared { 404 } else { 413 };
                assert_eq!(response.status(), expected, "{name}");
                let problem: ProblemBody = serde_json::from_str(&response.text().await.unwrap()).unwrap();
                assert!(!problem.refusal.reason.is_empty() && !problem.refusal.what_to_do.is_empty(), "{name}");
                let taken = taken.load(Ordering::Relaxed);
                assert!(taken < SENT / 4, "{name}: the server took {taken} bytes");
                assert_eq!(livez(client).await, StatusCode::OK, "{name}: the next request");
            }
        }
    }
    let grown = server.peak_bytes().saturating_sub(before);
    assert!(grown < MAY_GROW, "the server grew by {grown} bytes");
}
