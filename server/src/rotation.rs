//! What an operator asks and does about earlier signer keys: `signers` and `delete-signer`. The running server knows what still needs
//! which; it is asked as anybody may ask it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::Address;
use serde::Serialize;
use stkr_node::client::{Patience, Peer, ServerClient};
use stkr_node::config;
use stkr_node::exit::Failure;
use stkr_node::secrets;
use stkr_node::tls::{self, Identity};
use stkr_protocol::api::{SignerStanding, SignerUse, Signers};

use crate::config::{FilesConfig, ServerConfig};
use crate::signers;

/// Arguments of `delete-signer`.
#[derive(Clone, Debug, clap::Args)]
pub struct DeleteSignerArgs {
    /// Configuration file
    #[arg(long)]
    pub config: PathBuf,
    /// The earlier signer whose key is to go
    pub signer: Address,
}

/// What `delete-signer` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// Whose key is gone.
    pub deleted: Address,
    /// Where the key that `files.signer_key` names now lay before, if it was that file that went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<PathBuf>,
}

/// The signers of this server, as it says while it runs.
///
/// # Errors
/// Unavailable if it does not run.
pub async fn signers(config: &Path) -> eyre::Result<Signers> {
    let config = config::load::<ServerConfig>(config).map_err(Failure::usage)?;
    Ok(ask(&config).await?)
}

/// Deletes the key of an earlier signer that nothing needs any more.
///
/// # Errors
/// Refused while something does; unavailable if the server does not run, which alone knows.
pub async fn delete_signer(args: &DeleteSignerArgs) -> eyre::Result<Deleted> {
    let config = config::load::<ServerConfig>(&args.config).map_err(Failure::usage)?;
    let said = ask(&config).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let used = said.signers.iter().find(|it| it.signer == args.signer);
    let used = used.ok_or_else(|| Failure::usage(format!("this server has no key of signer {}", args.signer)))?;
    may_be_deleted(used, now)?;
    let current = said.signers.iter().find(|it| it.standing == SignerStanding::Current).map(|it| it.signer);
    let current = current.ok_or_else(|| Failure::refused("the key of the registry's signer is not here"))?;
    Ok(delete(&config.files, args.signer, current)?)
}

async fn ask(config: &ServerConfig) -> Result<Signers, Failure> {
    tls::install_provider().map_err(Failure::unavailable)?;
    let identity = Identity::load(&config.files.tls_certificate, &config.files.tls_key).map_err(Failure::usage)?;
    let endpoint = format!("https://{}", reachable(config.listen.address));
    let peer = Peer { server_id: 0, endpoint, fingerprint: identity.fingerprint() };
    let client = ServerClient::new(&identity, peer, Patience::default()).map_err(Failure::unavailable)?;
    client.signers().await.map_err(|error| Failure::unavailable(format!("the server has to run for this: {error}")))
}

/// The address at which this machine finds what listens at `address`.
const fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// That no share, and nothing that began before the last change, needs the key.
fn may_be_deleted(it: &SignerUse, now: u64) -> Result<(), Failure> {
    let signer = it.signer;
    match it.standing {
        SignerStanding::Earlier if it.shares > 0 => {
            let keys = it.key_ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            Err(Failure::refused(format!(
                "{} shares of this server are signed for with signer {signer} (keys {keys}); its key can go once these keys are \
                 reshared or retired, 7 days after the handover",
                it.shares
            )))
        }
        SignerStanding::Earlier if now < it.keep_until => Err(Failure::refused(format!(
            "the signer was changed a short time ago, and what began before may ask for {signer} until unix time {}; delete it then",
            it.keep_until
        ))),
        SignerStanding::Earlier => Ok(()),
        SignerStanding::Current => {
            Err(Failure::refused(format!("{signer} is the signer that the registry names; only earlier ones go")))
        }
        SignerStanding::Waiting => Err(Failure::refused(format!(
            "{signer} waits for the registry; if no setSigner for it was sent, and none will be, remove its file by hand"
        ))),
        SignerStanding::Missing => Err(Failure::usage(format!("the key of signer {signer} is not here"))),
    }
}

/// Deletes every file with the key of `signer`. In the place of `files.signer_key` comes that of `current`, in one step: at no time is
/// there none.
fn delete(files: &FilesConfig, signer: Address, current: Address) -> Result<Deleted, Failure> {
    let mut moved_from = None;
    let listed = signers::files_in(&files.signer_keys)?;
    if signers::read_key(&files.signer_key)?.address() == signer {
        let file = listed.iter().find(|file| signers::read_key(file).is_ok_and(|key| key.address() == current));
        let file =
            file.ok_or_else(|| Failure::refused(format!("no file in files.signer_keys has the key of {current}")))?;
        secrets::rename(file, &files.signer_key).map_err(Failure::unavailable)?;
        moved_from = Some(file.clone());
    }
    for file in listed.iter().filter(|file| moved_from.as_ref() != Some(file)) {
        if signers::read_key(file)?.address() == signer {
            std::fs::remove_file(file)
                .map_err(|error| Failure::unavailable(format!("cannot delete {}: {error}", file.display())))?;
        }
    }
    Ok(Deleted { deleted: signer, moved_from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stkr_node::exit::Exit;
    use stkr_protocol::SignerKey;

    const NOW: u64 = 1_000;

    fn key(byte: u8) -> SignerKey {
        SignerKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn used(standing: SignerStanding, shares: u64, keep_until: u64) -> SignerUse {
        SignerUse { signer: key(1).address(), standing, shares, key_ids: vec![5, 9], keep_until }
    }

    #[test]
    fn a_key_goes_only_if_it_is_an_earlier_one_that_no_share_and_nothing_under_way_needs() {
        may_be_deleted(&used(SignerStanding::Earlier, 0, NOW), NOW).unwrap();
        let refused = |it: SignerUse| {
            let error = may_be_deleted(&it, NOW).unwrap_err();
            assert!(matches!(error.exit, Exit::Refused | Exit::Usage), "{error}");
            error.to_string()
        };
        let named = refused(used(SignerStanding::Earlier, 2, 0));
        assert!(named.contains("2 shares") && named.contains("keys 5, 9"), "{named}");
        assert!(refused(used(SignerStanding::Earlier, 0, NOW + 1)).contains("until unix time 1001"));
        for standing in [SignerStanding::Current, SignerStanding::Waiting, SignerStanding::Missing] {
            refused(used(standing, 0, 0));
        }
    }

    #[test]
    fn the_file_that_the_configuration_names_holds_a_key_at_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let files = FilesConfig::default().below(folder.path());
        secrets::create_private_folder(&files.signer_keys).unwrap();
        secrets::write_hex32(&files.signer_key, &[1; 32]).unwrap();
        for byte in [1, 2, 3] {
            let file = signers::file_of(&files.signer_keys, key(byte).address());
            secrets::write_hex32(&file, &[byte; 32]).unwrap();
        }
        let all = || signers::read(&files).unwrap().iter().map(SignerKey::address).collect::<Vec<_>>();
        let [one, two, three] = [1, 2, 3].map(|byte| key(byte).address());
        assert!(delete(&files, one, key(9).address()).is_err(), "nothing to put in its place");
        assert_eq!(all().first(), Some(&one));
        // Not the one that the configuration names.
        assert_eq!(delete(&files, two, three).unwrap().moved_from, None);
        assert_eq!(all(), [one, three]);
        let moved = delete(&files, one, three).unwrap().moved_from;
        assert_eq!(moved, Some(signers::file_of(&files.signer_keys, three)));
        assert_eq!((all(), signers::files_in(&files.signer_keys).unwrap().len()), (vec![three], 0));
    }

    #[test]
    fn a_server_that_listens_everywhere_is_found_on_this_machine() {
        for (listens, found) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            assert_eq!(reachable(listens.parse().unwrap()), found.parse().unwrap());
        }
    }
}
