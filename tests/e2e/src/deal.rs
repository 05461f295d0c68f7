//! Dealt keys on a network: whole validator keys, split by their owner with the programs that owners and partners have.

use crate::Network;
use crate::network::{output, write_secret};
use crate::process::binary;
use alloy::primitives::{Address, B256, U256};
use alloy::signers::local::PrivateKeySigner;
use eyre::{Context, Result, ensure, eyre};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use stkr_core::keystore::{Kdf, Keystore};
use stkr_core::{PublicKey, SecretShare, ShareIndex};

/// Order of the BLS12-381 scalar field.
const ORDER: &str = "0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";

/// Password of the whole keys' keystores.
pub const PASSWORD: &str = "PLANTED-DEALER-PASSWORD";

/// The secret key of an interop validator: `int(SHA256(index as 32 bytes, little-endian), little-endian) mod r`, big-endian
/// (eth2.0-pm, interop/mocked_start).
pub fn interop_secret(index: u64) -> Result<[u8; 32]> {
    let hash = Sha256::digest(U256::from(index).to_le_bytes::<32>());
    let secret = U256::from_le_bytes::<32>(hash.into()) % ORDER.parse::<U256>()?;
    Ok(secret.to_be_bytes())
}

/// Public key of a whole secret key.
pub fn public_key(secret: &[u8; 32]) -> Result<PublicKey> {
    Ok(SecretShare::from_bytes(ShareIndex::new(1)?, secret)?.public_key())
}

/// How keys are dealt.
#[derive(Clone, Debug)]
pub struct Deal<'a> {
    /// Account that imports the keys and owns them.
    pub owner: &'a PrivateKeySigner,
    /// Who asks for their duties.
    pub duty_key: Address,
    /// Shares that sign.
    pub threshold: u8,
    /// Of the beacon chain, which the histories name.
    pub genesis_validators_root: B256,
    /// Whether the keys have signed before: the block of slot 1 and a vote for epoch 1. With an empty history the first vote of a
    /// key sets the lowest source of all later ones (EIP-3076), so votes that are asked for at once would depend on their order.
    pub has_signed: bool,
    /// A new folder for the dealer's files.
    pub dir: PathBuf,
}

impl Deal<'_> {
    /// Splits whole keys over all servers of the network, deletes them, and imports the keys on-chain. The servers must be
    /// registered and stopped. Returns the history that all keys were split with.
    ///
    /// Every step is a program's: `stkr-server import-key`, `stkr key split`, `stkr-server import-share`, `stkr key import-dealt`.
    pub fn make(&self, network: &Network, secrets: &[[u8; 32]]) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.dir)?;
        let import_keys = self.import_keys(network)?;
        let history = self.history(secrets)?;
        let whole = self.write_keystores(secrets)?;
        let splits: Vec<PathBuf> = (0..secrets.len()).map(|key| self.dir.join(format!("split-{key}"))).collect();
        for (key, folder) in splits.iter().enumerate() {
            self.split(network, &import_keys, &history, &whole.join(format!("{key}.json")), folder)?;
        }
        std::fs::remove_dir_all(&whole)?;
        ensure!(!whole.exists(), "the whole keys are still there");
        self.import_shares(network, &history, &splits)?;
        self.import_in_order(network, &(0..secrets.len()).collect::<Vec<_>>())?;
        Ok(history)
    }

    /// Imports keys that were made on-chain, in this order: after a reorganisation took them away, in another one.
    pub fn import_in_order(&self, network: &Network, keys: &[usize]) -> Result<()> {
        keys.iter().try_for_each(|key| self.import(network, &self.dir.join(format!("split-{key}"))))
    }

    /// One file per server: the key that its shares are encrypted to.
    fn import_keys(&self, network: &Network) -> Result<Vec<(u32, PathBuf)>> {
        let mut files = Vec::new();
        for server in &network.servers {
            let mut command = Command::new(binary("stkr-server")?);
            let printed = output(command.args(["import-key", "--config"]).arg(&server.config))?;
            let file = self.dir.join(format!("import-key-{}.json", server.id));
            std::fs::write(&file, printed)?;
            files.push((server.id, file));
        }
        Ok(files)
    }

    /// EIP-3076: what all keys have signed.
    fn history(&self, secrets: &[[u8; 32]]) -> Result<PathBuf> {
        let entry = |secret: &[u8; 32]| -> Result<Value> {
            let pubkey = format!("0x{}", hex::encode(public_key(secret)?.to_compressed()));
            let (blocks, votes) = if self.has_signed {
                (json!([{"slot": "1"}]), json!([{"source_epoch": "0", "target_epoch": "1"}]))
            } else {
                (json!([]), json!([]))
            };
            Ok(json!({"pubkey": pubkey, "signed_blocks": blocks, "signed_attestations": votes}))
        };
        let data: Vec<Value> = secrets.iter().map(entry).collect::<Result<_>>()?;
        let root = self.genesis_validators_root;
        let metadata = json!({"interchange_format_version": "5", "genesis_validators_root": root});
        let file = self.dir.join("history.json");
        std::fs::write(&file, json!({"metadata": metadata, "data": data}).to_string())?;
        Ok(file)
    }

    /// The whole keys, as a staker has them.
    fn write_keystores(&self, secrets: &[[u8; 32]]) -> Result<PathBuf> {
        let folder = self.dir.join("whole");
        std::fs::create_dir_all(&folder)?;
        write_secret(&folder.join("password"), &format!("{PASSWORD}\n"))?;
        for (key, secret) in secrets.iter().enumerate() {
            let (kdf, public) = (Kdf::Pbkdf2 { c: 1024 }, public_key(secret)?);
            let keystore = Keystore::encrypt(secret, PASSWORD, kdf, Some(&public), "", None)?;
            write_secret(&folder.join(format!("{key}.json")), &keystore.to_json()?)?;
        }
        write_secret(&folder.join("owner.key"), &format!("{}\n", self.owner.to_bytes()))?;
        std::fs::rename(folder.join("owner.key"), self.dir.join("owner.key"))?;
        Ok(folder)
    }

    fn split(
        &self,
        network: &Network,
        import_keys: &[(u32, PathBuf)],
        history: &Path,
        keystore: &Path,
        folder: &Path,
    ) -> Result<()> {
        let mut command = self.stkr(network)?;
        command
            .args(["key", "split", "--threshold", &self.threshold.to_string(), "--validator-keystore"])
            .arg(keystore);
        command.arg("--validator-password-file").arg(keystore.with_file_name("password"));
        command.args(["--owner", &self.owner.address().to_string(), "--slashing-history"]).arg(history);
        command.arg("--out").arg(folder);
        for (id, file) in import_keys {
            command.args(["--server", &format!("{id}={}", file.display())]);
        }
        output(&mut command).map(drop)
    }

    /// The file of a server's acknowledgements.
    fn acknowledgements(&self, server_id: u32) -> PathBuf {
        self.dir.join(format!("acknowledgements-{server_id}.json"))
    }

    /// All servers at once, each all its shares.
    fn import_shares(&self, network: &Network, history: &Path, splits: &[PathBuf]) -> Result<()> {
        let mut running: Vec<(PathBuf, Child)> = Vec::new();
        for server in &network.servers {
            let file = self.acknowledgements(server.id);
            let mut command = Command::new(binary("stkr-server")?);
            command.args(["import-share", "--config"]).arg(&server.config).arg("--slashing-history").arg(history);
            command.args(splits.iter().map(|folder| folder.join(format!("share-{}.json", server.id))));
            running.push((file.clone(), command.stdout(File::create(&file)?).spawn().wrap_err("start stkr-server")?));
        }
        for (file, child) in &mut running {
            let status = child.wait()?;
            ensure!(status.success(), "import-share for {} ended with {status}", file.display());
        }
        Ok(())
    }

    fn import(&self, network: &Network, folder: &Path) -> Result<()> {
        let mut command = self.stkr(network)?;
        command.args(["key", "import-dealt", "--key"]).arg(folder.join("dealt-key.json"));
        for server in &network.servers {
            command.arg("--acknowledgement").arg(self.acknowledgements(server.id));
        }
        command.args(["--duty-key", &self.duty_key.to_string(), "--key-file"]).arg(self.dir.join("owner.key"));
        output(&mut command).map(drop)
    }

    fn stkr(&self, network: &Network) -> Result<Command> {
        let mut command = Command::new(binary("stkr")?);
        command.args(["--rpc", &network.anvil.url, "--deployment"]).arg(&network.deployment_file);
        Ok(command)
    }
}

/// What a server's slashing protection exports: the whole history of all its keys.
pub fn export_history(network: &Network, position: usize, file: &Path) -> Result<()> {
    let server = network.servers.get(position).ok_or_else(|| eyre!("no server {position}"))?;
    let mut command = Command::new(binary("stkr-server")?);
    output(command.args(["protection", "export", "--config"]).arg(&server.config).arg("--file").arg(file)).map(drop)
}
