//! Two servers without network take part in a withdrawal key by files alone; files that are not what they should be change nothing.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_chain::bindings::KeyRegistry;
use stkr_e2e::offline::{OfflineServer, check_there_is_no_network};
use stkr_e2e::{Network, Options};

/// 4 online and 2 offline members.
const KEY: (u8, u8) = (5, 6);

async fn network(dir: &Path) -> Result<(Network, Vec<OfflineServer>)> {
    let network = Network::start(Options { servers: 4, block_ms: 500, ..Options::new(dir) }).await?;
    let port = network.anvil.url.rsplit(':').next().and_then(|it| it.trim_end_matches('/').parse().ok());
    check_there_is_no_network(port.ok_or_else(|| eyre!("{} has no port", network.anvil.url))?)?;
    let mut offline = Vec::new();
    for name in ["offline-a", "offline-b"] {
        offline.push(network.add_offline_server(name).await?);
    }
    Ok((network, offline))
}

/// What a scanner reads from a QR code in an image.
fn scan(image: &Path) -> Result<Vec<u8>> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(image)?)).read_info()?;
    let size = reader.output_buffer_size().ok_or_else(|| eyre!("an image without a size"))?;
    let mut pixels = vec![0; size];
    let side = usize::try_from(reader.next_frame(&mut pixels)?.width)?;
    let mut seen = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| pixels[y * side + x]);
    let codes = seen.detect_grids();
    ensure!(codes.len() == 1, "{} codes in {}", codes.len(), image.display());
    let mut content = Vec::new();
    codes[0].decode_to(&mut content)?;
    Ok(content)
}

#[tokio::test]
async fn two_servers_without_network_make_a_withdrawal_key_with_four_others() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (network, offline) = network(dir.path()).await?;
    let key = network.withdrawal_key(network.add_key_user().await?, KEY).await?;
    let registry = network.deployment.key_registry;
    let drawn = network.event::<KeyRegistry::CommitteeDrawn>(registry, key).await?;
    ensure!(offline.iter().all(|it| drawn.inner.committee.contains(&it.id)), "{:?}", drawn.inner.committee);

    let signed = network.carry_to_offline_servers(&offline, key).await?;
    let rounds = ["one_time_key", "dealing_commitment", "commitment_set", "dealing", "acknowledgement"];
    for server in &offline {
        // Who comes after all others in a round goes on with the next at once.
        let visits = &signed[&server.id];
        let said: Vec<&Value> = visits.iter().flat_map(|signs| signs.as_array().into_iter().flatten()).collect();
        assert_eq!(said, rounds, "{visits:?}");
        let status = server.json("status", &[])?;
        ensure!(status["ceremonies"][0]["hasShare"] == true, "{status}");
        // The one-time secret is erased with the acknowledgement.
        let database = rusqlite::Connection::open(server.dir.join("server/server.db"))?;
        let secrets = "SELECT count(*) FROM ceremony WHERE sealed IS NOT NULL";
        ensure!(database.query_row(secrets, [], |row| row.get::<_, u32>(0))? == 0);
    }
    let live = network.stkr().await?.keys().get(key).await?;
    ensure!((live.threshold, live.members) == KEY, "{live:?}");
    Ok(())
}

/// A request in which `change` was made.
fn changed(request: &Value, change: impl FnOnce(&mut Value)) -> String {
    let mut copy = request.clone();
    change(&mut copy);
    copy.to_string()
}

/// Flips the last digit of a hex text.
fn flip(text: &mut Value) {
    let mut digits = text.as_str().unwrap_or_default().to_owned();
    let last = digits.pop().unwrap_or('0');
    digits.push(if last == '0' { '1' } else { '0' });
    *text = json!(digits);
}

#[tokio::test]
async fn a_file_that_is_not_what_it_should_be_is_refused_in_one_sentence_and_changes_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (network, offline) = network(dir.path()).await?;
    let user = network.add_key_user().await?;
    let key = network.withdrawal_key(user, KEY).await?;
    let (server, other) = (&offline[0], &offline[1]);
    let request = network.offline_request(server.id, key).await?;
    server.bring("good.json", &request.to_string())?;
    let block = network.compared(server, "good.json").await?;
    let before = server.memory()?;

    let for_other = network.offline_request(other.id, key).await?.to_string();
    let slots = |it: &mut Value, of: &str| it["facts"][of]["storageProof"].take();
    let cases: Vec<(&str, String, i32, &str)> = vec![
        ("for the other machine", for_other, 1, "carry it to the other machine"),
        ("another chain", changed(&request, |it| it["about"]["chainId"] = json!("1")), 1, "is for chain 1"),
        ("another attempt", changed(&request, |it| it["about"]["attempt"] = json!("1")), 1, "speaks of attempt 1"),
        ("another key", changed(&request, |it| it["about"]["keyId"] = json!("9")), 1, "slot 0x"),
        ("another version", changed(&request, |it| it["version"] = json!("3")), 1, "has version 3"),
        (
            "another type",
            changed(&request, |it| it["type"] = json!("stkr-offline-answer")),
            1,
            "is a stkr-offline-answer",
        ),
        ("cut off", request.to_string()[..900].to_owned(), 1, "is no file of Stkr"),
        ("more in it", changed(&request, |it| it["more"] = json!(1)), 1, "is damaged"),
        ("too long", " ".repeat(4 * 1024 * 1024 + 1), 2, "is longer than"),
        (
            "a header of another state",
            changed(&request, |it| {
                let header = it["facts"]["header"].as_str().unwrap_or_default().to_owned();
                // The state root is the fourth field: parent, ommers and beneficiary before it.
                let at = 2 + 2 * (3 + 33 + 33 + 21 + 1);
                let digit = if &header[at..=at] == "0" { "1" } else { "0" };
                it["facts"]["header"] = json!(format!("{}{digit}{}", &header[..at], &header[at + 1..]));
            }),
            1,
            "account of the KeyRegistry does not lead",
        ),
        (
            "another account",
            changed(&request, |it| it["facts"]["keyRegistry"]["storageHash"] = json!(format!("0x{:064x}", 7))),
            1,
            "account of the KeyRegistry does not lead",
        ),
        (
            "another word",
            changed(&request, |it| it["facts"]["keyRegistry"]["storageProof"][0]["value"] = json!("0x7")),
            1,
            "of the KeyRegistry does not lead",
        ),
        (
            "a proof cut off",
            changed(&request, |it| it["facts"]["serverRegistry"]["storageProof"][2]["proof"] = json!([])),
            1,
            "of the ServerRegistry does not lead",
        ),
        (
            "another signer",
            changed(&request, |it| flip(&mut it["facts"]["serverRegistry"]["storageProof"][1]["value"])),
            1,
            "of the ServerRegistry does not lead",
        ),
        (
            "a slot left out",
            changed(&request, |it| {
                slots(it, "serverRegistry");
                it["facts"]["serverRegistry"]["storageProof"] = json!([]);
            }),
            1,
            "of the ServerRegistry does not lead",
        ),
        (
            "another committee",
            changed(&request, |it| it["facts"]["committee"] = json!([1, 2, 3, 4, 5, 9])),
            1,
            "is not the one that the chain committed to",
        ),
    ];
    for (what, text, code, sentence) in cases {
        server.bring("bad.json", &text)?;
        let (exit, said) = server.refusal("answer", &["bad.json", "--out", "out.json", "--yes", "--block", &block])?;
        ensure!(exit == code && said.contains(sentence), "{what}: {exit}, {said}");
        ensure!(!server.dir.join("out.json").exists() && server.memory()? == before, "{what} changed something");
    }

    // The hash is compared, and by a person.
    let wrong = format!("0x{:064x}", 7);
    for (args, code, sentence) in [
        (vec!["good.json", "--out", "out.json", "--yes"], 2, "give its hash with --block"),
        (vec!["good.json", "--out", "out.json", "--yes", "--block", &wrong], 1, "must not be answered"),
        (vec!["good.json", "--out", "out.json", "--block", &block], 2, "give --yes"),
        (vec!["good.json", "--out", "good.json", "--yes", "--block", &block], 2, "exists already"),
    ] {
        let (exit, said) = server.refusal("answer", &args)?;
        ensure!(exit == code && said.contains(sentence), "{args:?}: {exit}, {said}");
        ensure!(server.memory()? == before, "{args:?} changed something");
    }

    // Replayed: the same is said again, and nothing changes.
    server.json("answer", &["good.json", "--out", "first.json", "--yes", "--block", &block])?;
    let once = server.memory()?;
    let again = server.json("answer", &["good.json", "--out", "second.json", "--yes", "--qr", "second.png"])?;
    ensure!(again["signs"] == json!([]) && server.memory()? == once, "{again}");
    let read = |name: &str| std::fs::read_to_string(server.dir.join(name));
    let (first, second): (Value, Value) =
        (serde_json::from_str(&read("first.json")?)?, serde_json::from_str(&read("second.json")?)?);
    ensure!(first["response"]["messages"] == second["response"]["messages"], "it said something else");
    let scanned: Value = serde_json::from_slice(&scan(&server.dir.join("second.png"))?)?;
    ensure!(scanned == second, "a scanner reads {scanned}");

    // A relayer takes what its server signed, and nothing else.
    let answers: Vec<(&str, String, u16)> = vec![
        ("no file", "{}".to_owned(), 400),
        ("a request", request.to_string(), 400),
        ("another server's name", changed(&first, |it| it["about"]["server"] = json!(other.id.to_string())), 422),
        ("another chain", changed(&first, |it| it["about"]["chainId"] = json!("1")), 422),
        ("another attempt", changed(&first, |it| it["about"]["attempt"] = json!("1")), 404),
        ("another phase", changed(&first, |it| it["response"]["phase"] = json!("failed")), 422),
        ("another message", changed(&first, |it| flip(&mut it["response"]["messages"][0]["signature"])), 422),
        ("what it wrote", first.to_string(), 200),
    ];
    for (what, text, status) in answers {
        let (got, body) = network.hand_in_answer(&text).await?;
        ensure!(got == status, "{what}: {got} {body}");
    }

    // A message that somebody changed on the way.
    network
        .until("messages", || async {
            let request = network.offline_request(server.id, key).await?;
            Ok(request["messages"].as_array().is_some_and(|all| all.len() >= 5))
        })
        .await?;
    let later = network.offline_request(server.id, key).await?;
    server.bring("bad.json", &changed(&later, |it| flip(&mut it["messages"][0]["body"]["publicKey"])))?;
    let (exit, said) = server.refusal("answer", &["bad.json", "--out", "out.json", "--yes"])?;
    ensure!(exit == 1 && said.contains("is not authentic") && server.memory()? == once, "{exit} {said}");

    // Stale: a newer block was confirmed here.
    let [older, newer] = [network.withdrawal_key(user, KEY).await?, network.withdrawal_key(user, KEY).await?];
    server.bring("old.json", &network.offline_request(server.id, older).await?.to_string())?;
    let old = network.compared(server, "old.json").await?;
    let mut new = old.clone();
    while new == old {
        server.bring("new.json", &network.offline_request(server.id, newer).await?.to_string())?;
        new = network.compared(server, "new.json").await?;
    }
    server.json("answer", &["new.json", "--out", "new-answer.json", "--yes", "--block", &new])?;
    let confirmed = server.memory()?;
    let (exit, said) = server.refusal("answer", &["old.json", "--out", "out.json", "--yes", "--block", &old])?;
    ensure!(exit == 1 && said.contains("it is stale") && server.memory()? == confirmed, "{exit} {said}");

    // Without its memory it does not start over.
    for file in ["server.db", "server.db-wal", "server.db-shm"] {
        let _ = std::fs::remove_file(server.dir.join("server").join(file));
    }
    let (exit, said) = server.refusal("answer", &["new.json", "--out", "out.json", "--yes", "--block", &new])?;
    ensure!(exit == 4 && said.contains("does not know what it signed"), "{exit} {said}");
    Ok(())
}
