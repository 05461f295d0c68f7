//! A deployment file that does not fit the chain: the server refuses to start, says why in one sentence and touches
//! nothing, so that correcting the file is all there is to do.

use serde_json::{Value, json};

use crate::chain::Chain;
use crate::harness::{Made, deployment, fingerprint, refused_start, run, server_on};

/// The configuration is wrong in itself.
const USAGE: i32 = 2;
/// File and chain contradict each other.
const UNSAFE: i32 = 4;

/// Fields of the deployment file and what is written there instead.
type Changes = Vec<(&'static str, Value)>;

/// Runs a server on `network` with these changes to its deployment file, and undoes them again.
/// Gives the exit code and the only sentence it ends with.
fn refused_with(made: &Made, network: &str, changes: &Changes) -> (i32, String) {
    let right = std::fs::read(made.deployment_file()).unwrap();
    let right_config = std::fs::read(made.config()).unwrap();
    let mut file: Value = serde_json::from_slice(&right).unwrap();
    for (field, value) in changes {
        assert_ne!(file[*field], *value, "nothing is wrong with {field}");
        file[*field] = value.clone();
    }
    std::fs::write(made.deployment_file(), file.to_string()).unwrap();
    if network != "devnet" {
        made.edit_config("network = \"devnet\"", &format!("network = \"{network}\""));
    }
    let output = refused_start(made);
    std::fs::write(made.deployment_file(), right).unwrap();
    std::fs::write(made.config(), right_config).unwrap();

    assert_eq!(output.stdout, b"", "it says that it is ready");
    let stderr = String::from_utf8(output.stderr).unwrap();
    // What is no JSON is for people.
    let said: Vec<&str> = stderr.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).collect();
    assert_eq!(said.len(), 1, "not one sentence but:\n{stderr}");
    let sentence = said[0].strip_prefix("stkr-server: ").unwrap_or_else(|| panic!("{stderr}"));
    (output.status.code().unwrap(), sentence.to_owned())
}

#[tokio::test]
async fn a_deployment_file_that_does_not_fit_the_chain_is_refused_in_one_sentence_and_nothing_is_touched() {
    let chain = Chain::start().await;
    let made = server_on(&chain);
    let right = deployment(&chain);
    let address = |field: &str| right[field].clone();
    // A real contract that is none of those in the file: what every vault is a copy of.
    let another = json!(chain.deployment.micropools.create(1));
    let empty = json!("0x00000000000000000000000000000000000abcde");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let database = std::fs::read(made.dir.join("server.db")).unwrap();

    let wired = |contract: &str, field: &str, found: &Value, says: &Value| {
        let (found, says) = (text(found).to_lowercase(), text(says).to_lowercase());
        format!(
            "{contract} works with {field} {found}, the deployment file says {says}; the file mixes two deployments"
        )
        .to_lowercase()
    };
    let nothing_there =
        |field: &str| format!("there is no contract at {}, which the deployment file calls {field}", text(&empty));
    let other_there = |field: &str, at: &Value| {
        format!("what is at {} is another contract than the one the deployment file calls {field}", text(at))
    };
    let (keys, servers, providers) = (address("keyRegistry"), address("serverRegistry"), address("providerRegistry"));
    let (pools, deposits) = (address("micropools"), address("depositContract"));
    let cases: Vec<(&str, Changes, i32, String)> = vec![
        // Every registry, with no contract there and with another one.
        ("devnet", vec![("keyRegistry", empty.clone())], UNSAFE, nothing_there("keyRegistry")),
        ("devnet", vec![("serverRegistry", empty.clone())], UNSAFE, nothing_there("serverRegistry")),
        ("devnet", vec![("providerRegistry", empty.clone())], UNSAFE, nothing_there("providerRegistry")),
        ("devnet", vec![("micropools", empty.clone())], UNSAFE, nothing_there("micropools")),
        ("devnet", vec![("depositContract", empty.clone())], UNSAFE, nothing_there("depositContract")),
        ("devnet", vec![("keyRegistry", another.clone())], UNSAFE, wired("micropools", "keyRegistry", &keys, &another)),
        (
            "devnet",
            vec![("serverRegistry", another.clone())],
            UNSAFE,
            wired("keyRegistry", "serverRegistry", &servers, &another),
        ),
        (
            "devnet",
            vec![("providerRegistry", another.clone())],
            UNSAFE,
            wired("micropools", "providerRegistry", &providers, &another),
        ),
        (
            "devnet",
            vec![("depositContract", another.clone())],
            UNSAFE,
            wired("micropools", "depositContract", &deposits, &another),
        ),
        ("devnet", vec![("court", empty.clone())], UNSAFE, nothing_there("court")),
        (
            "devnet",
            vec![("court", another.clone())],
            UNSAFE,
            wired("serverRegistry", "court", &address("court"), &another),
        ),
        ("devnet", vec![("micropools", another.clone())], UNSAFE, other_there("micropools", &another)),
        (
            "devnet",
            vec![("micropools", deposits.clone()), ("depositContract", pools)],
            UNSAFE,
            other_there("micropools", &deposits),
        ),
        (
            "devnet",
            vec![("keyRegistry", servers.clone()), ("serverRegistry", keys.clone())],
            UNSAFE,
            wired("micropools", "keyRegistry", &keys, &servers),
        ),
        // No chain is needed to see these.
        ("devnet", vec![("keyRegistry", servers)], USAGE, "keyRegistry and serverRegistry are both".to_owned()),
        (
            "devnet",
            vec![("keyRegistry", json!(alloy::primitives::Address::ZERO))],
            USAGE,
            "keyRegistry is the zero address".to_owned(),
        ),
        (
            "devnet",
            vec![("chainId", json!(1))],
            USAGE,
            "the deployment is on chain 1, but network devnet is chain 31337".to_owned(),
        ),
        // The chain's own answer decides where no preset pins it.
        (
            "custom",
            vec![("chainId", json!(17000))],
            UNSAFE,
            "serves chain 31337, the deployment file is for chain 17000; correct one of them".to_owned(),
        ),
        (
            "devnet",
            vec![("genesisForkVersion", json!("0x00000000"))],
            UNSAFE,
            wired("micropools", "genesisForkVersion", &json!("0x53746b72"), &json!("0x00000000")),
        ),
    ];
    for (network, changes, code, expected) in cases {
        let (found, sentence) = refused_with(&made, network, &changes);
        assert!(sentence.to_lowercase().contains(&expected.to_lowercase()), "{changes:?}: {sentence}");
        assert_eq!(found, code, "{changes:?}: {sentence}");
    }

    assert_eq!(std::fs::read(made.dir.join("server.db")).unwrap(), database, "a refused start wrote to the database");
    let server = run(&made, &[]);
    let client = crate::harness::client(fingerprint(&made));
    assert_eq!(client.get(server.url("/livez")).send().await.unwrap().status(), 200, "the right file starts it");
}
