//! The command line.

use std::path::PathBuf;

use alloy::primitives::{Address, B256, Bytes};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use stkr_node::config::ConfigCommand;

use url::Url;

use crate::config::RpcUrl;

/// Stkr on the command line: servers, providers, micropools, positions and keys.
///
/// Exit codes: 0 done, 1 refused, 2 usage, 3 unavailable, 4 unsafe.
#[derive(Debug, Parser)]
#[command(name = "stkr", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Print JSON, also for errors
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Execution endpoint (http, https, ws or wss), without user, path and query; STKR_RPC may have them
    #[arg(long, global = true, value_name = "URL", conflicts_with = "rpc_file")]
    pub(crate) rpc: Option<RpcUrl>,
    /// File with the execution endpoint, mode 0600: for a URL that holds an API key
    #[arg(long, global = true, env = "STKR_RPC_FILE", value_name = "FILE")]
    pub(crate) rpc_file: Option<PathBuf>,
    /// Addresses of the contracts: deployments/<chain id>.json
    #[arg(long, global = true, env = "STKR_DEPLOYMENT", value_name = "FILE")]
    pub(crate) deployment: Option<PathBuf>,
    /// Configuration file, see `stkr config example`
    #[arg(long, global = true, env = "STKR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Network the deployment must be on
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) network: Option<Network>,
}

/// Network presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    Mainnet,
    Hoodi,
    Devnet,
    Custom,
}

/// How a write is signed and sent.
/// Arguments of `key split`.
#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    /// EIP-2335 keystore of the validator key, mode 0600
    #[arg(long, value_name = "FILE")]
    pub(crate) validator_keystore: PathBuf,
    /// File with its password, mode 0600
    #[arg(long, value_name = "FILE")]
    pub(crate) validator_password_file: PathBuf,
    /// Shares that sign
    #[arg(long)]
    pub(crate) threshold: u8,
    /// A server's id and the file that `stkr-server import-key` printed: ID=FILE; once per server
    #[arg(long = "server", value_name = "ID=FILE", required = true)]
    pub(crate) servers: Vec<String>,
    /// What the key signed so far (EIP-3076 interchange), exported after its last signature
    #[arg(long, value_name = "FILE")]
    pub(crate) slashing_history: PathBuf,
    /// Account that will import the key and own it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) owner: Address,
    /// New folder for the files
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Signing")]
pub(crate) struct Signing {
    /// Ethereum keystore (version 3) of the signing account
    #[arg(long, value_name = "FILE", requires = "password_file")]
    pub(crate) keystore: Option<PathBuf>,
    /// File with the keystore's password, mode 0600
    #[arg(long, value_name = "FILE", requires = "keystore")]
    pub(crate) password_file: Option<PathBuf>,
    /// Instead of a keystore: file with the key in hex, mode 0600
    #[arg(long, value_name = "FILE", conflicts_with = "keystore")]
    pub(crate) key_file: Option<PathBuf>,
    /// Print the transaction as JSON for a wallet to sign, and send nothing
    #[arg(long, conflicts_with_all = ["dry_run", "keystore", "key_file"])]
    pub(crate) unsigned: bool,
    /// Execute on the endpoint and keep nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Account to act as with --unsigned or --dry-run, where no key is given
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<Address>,
    /// Never offer more than this per gas
    #[arg(long, value_name = "GWEI")]
    pub(crate) max_fee_gwei: Option<String>,
    /// Blocks to wait for, the transaction's own included
    #[arg(long, value_name = "BLOCKS", default_value_t = 1)]
    pub(crate) confirmations: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Threshold servers
    #[command(subcommand, arg_required_else_help = true)]
    Server(ServerCommand),
    /// Providers and their duty keys
    #[command(subcommand, arg_required_else_help = true)]
    Provider(ProviderCommand),
    /// Micropools
    #[command(subcommand, arg_required_else_help = true)]
    Pool(PoolCommand),
    /// Stakers' positions
    #[command(subcommand, arg_required_else_help = true)]
    Position(PositionCommand),
    /// Keys nobody holds
    #[command(subcommand, arg_required_else_help = true)]
    Key(KeyCommand),
    /// Keys that move to another committee and stay the same keys
    #[command(subcommand, arg_required_else_help = true)]
    Reshare(ReshareCommand),
    /// How keys are made, and who holds that up
    #[command(subcommand, arg_required_else_help = true)]
    Ceremony(CeremonyCommand),
    /// Files that are carried to servers without network, and back
    #[command(subcommand, arg_required_else_help = true)]
    Offline(OfflineCommand),
    /// Files that prove a fault of a server or provider, for the Court
    #[command(subcommand, arg_required_else_help = true)]
    Evidence(EvidenceCommand),
    /// Questions to servers on the chain: what it ordered, and who has not signed it
    #[command(subcommand, arg_required_else_help = true)]
    Challenge(ChallengeCommand),
    /// What the signing account earned with proofs of faults
    #[command(subcommand, arg_required_else_help = true)]
    Bounty(BountyCommand),
    /// Follow the events of all contracts, across reorgs
    Watch {
        /// Where to start: deployment, now, or the cursor of a checkpoint (number:hash/number:hash)
        #[arg(long, default_value = "now")]
        from: String,
        /// End at the block that is the newest when the command starts
        #[arg(long)]
        once: bool,
    },
    /// Compare what is deployed with this build, byte by byte
    VerifyDeployment,
    /// Example of the configuration file, or a check of one
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Print completions for a shell
    Completions {
        /// Shell to complete in
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// All servers
    List,
    /// One server
    Show {
        /// Server id
        id: u32,
    },
    /// What was proven about a server, and what followed
    History {
        /// Server id
        id: u32,
    },
    /// Register a server of the signing account; `stkr-server register-args` prints what is needed
    Register {
        /// JSON file with signer, tlsFingerprint, kind, endpoint and signerProof
        #[arg(long, value_name = "FILE")]
        args: PathBuf,
        /// Bond, for example 1eth
        #[arg(long, value_name = "AMOUNT")]
        bond: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Add to the bond of a server
    AddBond {
        /// Server id
        id: u32,
        /// For example 0.5eth
        amount: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Change endpoint and certificate of a server
    SetEndpoint {
        /// Server id
        id: u32,
        /// SHA-256 of the certificate
        #[arg(long, value_name = "HEX")]
        tls_fingerprint: B256,
        /// https://host:port
        #[arg(long, value_name = "URL")]
        endpoint: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Governance: let a server be drawn
    Approve {
        /// Server id
        id: u32,
        /// Announce it, for governance with a delay
        #[arg(long)]
        schedule: bool,
        #[command(flatten)]
        signing: Signing,
    },
    /// Governance: set the smallest bond of a new server and the part of a bond that each seat reserves
    SetBondParameters {
        /// For example 4eth
        #[arg(long, value_name = "AMOUNT")]
        min_bond: String,
        /// For example 0.2eth
        #[arg(long, value_name = "AMOUNT")]
        seat_bond: String,
        /// Announce it, for governance with a delay
        #[arg(long)]
        schedule: bool,
        #[command(flatten)]
        signing: Signing,
    },
    /// Governance: take a server out of future draws
    Suspend {
        /// Server id
        id: u32,
        /// Why, on record
        reason: String,
        /// Announce it, for governance with a delay
        #[arg(long)]
        schedule: bool,
        #[command(flatten)]
        signing: Signing,
    },
    /// Governance: let a server that was locked out take part again
    Reinstate {
        /// Server id
        id: u32,
        /// What the investigation found, on record
        reason: String,
        /// Announce it, for governance with a delay
        #[arg(long)]
        schedule: bool,
        #[command(flatten)]
        signing: Signing,
    },
    /// Name another signer key; keys that exist keep the old one, and what it signed stays punishable
    SetSigner {
        /// Server id
        id: u32,
        /// Address of the new signer key
        #[arg(long, value_name = "ADDRESS")]
        signer: Address,
        /// 65-byte signature by the new key over SignerProof(operator, signer)
        #[arg(long, value_name = "HEX")]
        proof: Bytes,
        #[command(flatten)]
        signing: Signing,
    },
    /// Announce that a server leaves
    Leave {
        /// Server id
        id: u32,
        #[command(flatten)]
        signing: Signing,
    },
    /// Take the bond of a server that left
    WithdrawBond {
        /// Server id
        id: u32,
        #[command(flatten)]
        signing: Signing,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Every .json file of a folder, and what it proves
    List {
        /// The folder
        folder: PathBuf,
    },
    /// What a file says, unjudged
    Show {
        /// The file
        file: PathBuf,
    },
    /// Judge a file as the Court would
    Verify {
        /// The file
        file: PathBuf,
        /// Ask no endpoint: signatures, leaf, pairing and conflict only
        #[arg(long)]
        offline: bool,
    },
    /// Look for faults in what gateways kept (pages of their /v1/requests) and write a file of each
    Find {
        /// Pages; from several gateways: what one server signed for one of them can conflict with what it signed for another
        #[arg(required = true)]
        pages: Vec<PathBuf>,
        /// Folder for the files
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Report a fault from the signing account, whoever that is: commit, wait for three blocks, prove, follow until final
    Submit {
        /// The file
        file: PathBuf,
        /// End once the proof is in a block
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        signing: Signing,
    },
    /// Step 1 of a report alone: commit the signing account to the evidence
    Commit {
        /// The file
        file: PathBuf,
        /// Account that will prove it, where that is not known from the key that signs
        #[arg(long, value_name = "ADDRESS")]
        reporter: Option<Address>,
        #[command(flatten)]
        signing: Signing,
    },
    /// Step 2 of a report alone, from the account that committed
    Prove {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        signing: Signing,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OfflineCommand {
    /// Keys whose ceremonies, reshares or changes of credentials wait for an offline server now, as a relayer sees it
    Due {
        /// Id of the offline server
        #[arg(long, value_name = "ID")]
        server: u32,
        /// A relayer that carries the ceremony
        #[arg(long, value_name = "URL", value_parser = relayer_url)]
        relayer: Url,
    },
    /// Fetch the file that is to be carried to an offline server. The server checks all that is in it
    Fetch {
        /// Id of the offline server
        #[arg(long, value_name = "ID")]
        server: u32,
        /// Key id
        #[arg(long, value_name = "ID")]
        key: u64,
        /// A relayer that carries the ceremony
        #[arg(long, value_name = "URL", value_parser = relayer_url)]
        relayer: Url,
        /// File to write; must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Hand in what an offline server answered
    Submit {
        /// The file that `stkr-server offline answer` wrote; `-` for what a scanner of its QR code types
        file: PathBuf,
        /// A relayer that carries the ceremony
        #[arg(long, value_name = "URL", value_parser = relayer_url)]
        relayer: Url,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CeremonyCommand {
    /// Where the last ceremony of a key stands: which member it waits for, in which round, since when, and what to check
    Show {
        /// Key id
        #[arg(required_unless_present = "pool", conflicts_with = "pool")]
        id: Option<u64>,
        /// The key of this pool instead
        #[arg(long, value_name = "ID")]
        pool: Option<u64>,
        /// A relayer that carries the ceremony: who said what, and when. Messages that it makes up are not believed
        #[arg(long, value_name = "URL", value_parser = relayer_url)]
        relayer: Option<Url>,
    },
    /// Ask servers before anything starts: reachable, clock, version, chain view, readiness. One line each; 3 if one is not well
    Preflight {
        /// Ids of the servers, with commas; left out, all online servers that can be drawn
        #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with = "key")]
        servers: Vec<u32>,
        /// The committee of this key instead
        #[arg(long, value_name = "ID")]
        key: Option<u64>,
    },
}

/// Which challenge is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct OfChallenge {
    /// Key id
    pub(crate) key: u64,
    /// Id of the server that is asked
    pub(crate) server: u32,
    /// What it has to sign; left out, the deposit that the key's pool ordered, or the one change of credentials
    #[arg(long, value_name = "HEX")]
    pub(crate) root: Option<B256>,
}

/// Which challenge is meant, of both kinds.
#[derive(Debug, Clone, Args)]
pub(crate) struct OfAnyChallenge {
    #[command(flatten)]
    pub(crate) of: OfChallenge,
    /// The challenge to acknowledge the key, not one to sign with it
    #[arg(long, conflicts_with = "root")]
    pub(crate) acknowledgement: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChallengeCommand {
    /// All challenges, oldest first
    List {
        /// Only those to this server
        #[arg(long, value_name = "ID")]
        server: Option<u32>,
        /// Only those that wait for an answer or a proof
        #[arg(long)]
        open: bool,
    },
    /// The newest challenge to a server to sign something with a key, or to acknowledge it
    Show {
        #[command(flatten)]
        of: OfAnyChallenge,
    },
    /// Ask a server on the chain; it has a day (a week without network), and whoever asked gets the fee and a bounty if it is silent
    Open {
        #[command(flatten)]
        of: OfChallenge,
        /// For the answer, for example 0.01eth; left out, half more than an answer costs now
        #[arg(long, value_name = "AMOUNT")]
        fee: Option<String>,
        #[command(flatten)]
        signing: Signing,
    },
    /// Ask a member of a running ceremony on the chain to acknowledge the key; it has a day (a week without network)
    Acknowledgement {
        /// Key id
        key: u64,
        /// Id of the server that is asked
        server: u32,
        /// Where the dealings come from: a relayer that carries the ceremony. What it says is checked
        #[arg(long, value_name = "URL", value_parser = relayer_url)]
        relayer: Url,
        /// For the answer, for example 0.01eth; left out, half more than an answer costs now
        #[arg(long, value_name = "AMOUNT")]
        fee: Option<String>,
        #[command(flatten)]
        signing: Signing,
    },
    /// Answer for a server, from any account: asks the server itself
    Answer {
        #[command(flatten)]
        of: OfAnyChallenge,
        /// JSON file with partial, envelope, index and committeeEpoch, as the server answers POST /v1/sign; for an
        /// acknowledgement what it answers POST /v1/ceremonies/advance, or a file of evidence against a member of the ceremony
        #[arg(long, value_name = "FILE")]
        answer: Option<PathBuf>,
        #[command(flatten)]
        signing: Signing,
    },
    /// Show that nobody answered in time: the server is slashed and locked out
    Prove {
        #[command(flatten)]
        of: OfAnyChallenge,
        #[command(flatten)]
        signing: Signing,
    },
    /// Write evidence that nobody answered in time, from the Court's storage: before it is proven, which closes the challenge
    Evidence {
        #[command(flatten)]
        of: OfAnyChallenge,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Fees that an account can withdraw
    Fees {
        /// The operator or challenger
        account: Address,
    },
    /// Withdraw the signing account's fees: of answered challenges to its servers, and of its own that nobody answered
    Withdraw {
        /// The fees of challenges to acknowledge a key, which another contract holds
        #[arg(long)]
        acknowledgements: bool,
        #[command(flatten)]
        signing: Signing,
    },
}

/// Who pays a bounty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BountyOf {
    /// The server registry, from the bonds of servers
    Servers,
    /// The pools contract, from the insurance of providers
    Providers,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BountyCommand {
    /// What an account can withdraw
    Show {
        /// The reporter
        account: Address,
    },
    /// Withdraw what the signing account earned
    Withdraw {
        /// Whose faults it was for
        #[arg(value_enum)]
        of: BountyOf,
        #[command(flatten)]
        signing: Signing,
    },
}

/// Where the proof of a duty key comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct DutyKey {
    /// File with the duty key in hex, mode 0600: makes the proof here
    #[arg(long, value_name = "FILE", required_unless_present = "duty_key", conflicts_with_all = ["duty_key", "proof"])]
    pub(crate) duty_key_file: Option<PathBuf>,
    /// Address of the duty key, with a proof made elsewhere
    #[arg(long, value_name = "ADDRESS", requires = "proof")]
    pub(crate) duty_key: Option<Address>,
    /// 65-byte signature by the duty key over DutyKeyProof(provider, dutyKey)
    #[arg(long, value_name = "HEX", requires = "duty_key")]
    pub(crate) proof: Option<Bytes>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// Register the signing account as a provider
    Register {
        #[command(flatten)]
        duty_key: DutyKey,
        #[command(flatten)]
        signing: Signing,
    },
    /// One provider and the history of its duty keys
    Show {
        /// The provider's account
        provider: Address,
    },
    /// Name a new duty key
    SetDutyKey {
        #[command(flatten)]
        duty_key: DutyKey,
        #[command(flatten)]
        signing: Signing,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// All pools
    List {
        /// Only pools in this state, for example open
        #[arg(long)]
        state: Option<String>,
    },
    /// One pool
    Show {
        /// Pool id
        id: u64,
    },
    /// Open a pool of the signing provider, with 2 ETH of insurance
    Open {
        /// Shares that sign
        #[arg(long, value_name = "T", default_value_t = 3)]
        threshold: u8,
        /// Shares that exist
        #[arg(long, value_name = "N", default_value_t = 4)]
        members: u8,
        /// Live withdrawal key of the provider (`stkr key request-withdrawal`): the deposit has its 0x00 credentials
        #[arg(long, value_name = "KEY")]
        withdrawal_key: Option<u64>,
        #[command(flatten)]
        signing: Signing,
    },
    /// Stake into an open pool
    Stake {
        /// Pool id
        id: u64,
        /// At least 0.5eth
        amount: String,
        /// The account holds a position in this pool already: less than 0.5 ETH is fine
        #[arg(long)]
        add: bool,
        #[command(flatten)]
        signing: Signing,
    },
    /// Take a stake out of an open pool
    Leave {
        /// Pool id
        id: u64,
        /// For example 0.5eth
        amount: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Give a position, or a part of it, to another account
    Transfer {
        /// Pool id
        id: u64,
        /// Receiver
        to: Address,
        /// For example 0.5eth
        amount: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Let another account move up to an amount of a position
    Approve {
        /// Pool id
        id: u64,
        /// Who may move it
        spender: Address,
        /// For example 0.5eth; 0 takes an earlier approval back
        amount: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Let another account move all positions of the signing account
    SetOperator {
        /// Who may move them
        spender: Address,
        /// Take it back
        #[arg(long)]
        revoke: bool,
        #[command(flatten)]
        signing: Signing,
    },
    /// Give somebody else's position, or a part of it, to an account, where its owner allowed that
    TransferFrom {
        /// Pool id
        id: u64,
        /// Owner
        owner: Address,
        /// Receiver
        to: Address,
        /// For example 0.5eth
        amount: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Ask for the key of a full pool
    RequestKey {
        #[command(flatten)]
        on: OnPool,
    },
    /// Order the deposit of a pool whose key is live
    OrderDeposit {
        #[command(flatten)]
        on: OnPool,
    },
    /// Send the first ETH with the committee's signature over the ordered deposit
    Predeposit {
        /// Signature of the pool's key, 96 bytes
        #[arg(long, value_name = "HEX")]
        signature: Bytes,
        #[command(flatten)]
        on: OnPool,
    },
    /// Show a signature of the pool's key over a deposit to other credentials: burns the key, pays everybody back
    ProveForeignDeposit {
        /// The other withdrawal credentials
        #[arg(long, value_name = "HEX")]
        credentials: B256,
        /// Amount of that deposit in gwei
        #[arg(long, value_name = "GWEI")]
        amount_gwei: u64,
        /// Signature of the pool's key, 96 bytes
        #[arg(long, value_name = "HEX")]
        signature: Bytes,
        #[command(flatten)]
        on: OnPool,
    },
    /// Send the other 31 ETH after the challenge window
    #[command(name = "topup")]
    TopUp {
        #[command(flatten)]
        on: OnPool,
    },
    /// The changes of credentials that were ordered for a pool with a withdrawal key
    Changes {
        /// Pool id
        id: u64,
    },
    /// As provider or staker: order the change of the validator's credentials to the pool's vault
    OrderChange {
        /// Position of the pool's validator in the beacon chain's registry
        #[arg(long, value_name = "INDEX")]
        validator_index: u64,
        #[command(flatten)]
        on: OnPool,
    },
    /// Show the withdrawal committee's signature over an ordered change
    ShowChange {
        /// The validator that it names
        #[arg(long, value_name = "INDEX")]
        validator_index: u64,
        /// Signature of the withdrawal key, 96 bytes
        #[arg(long, value_name = "HEX")]
        signature: Bytes,
        #[command(flatten)]
        on: OnPool,
    },
    /// Cancel a pool whose withdrawal key signed no change in 90 days
    CancelUnchanged {
        #[command(flatten)]
        on: OnPool,
    },
    /// Cancel a pool whose deadline has passed
    Cancel {
        #[command(flatten)]
        on: OnPool,
    },
    /// Get the whole position back from a cancelled pool
    Refund {
        #[command(flatten)]
        on: OnPool,
    },
    /// Get the insurance back from a cancelled pool
    WithdrawInsurance {
        #[command(flatten)]
        on: OnPool,
    },
}

/// A write that takes nothing but the pool.
#[derive(Debug, Clone, Args)]
pub(crate) struct OnPool {
    /// Pool id
    pub(crate) id: u64,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PositionCommand {
    /// All positions of an account
    List {
        /// The staker
        account: Address,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReshareCommand {
    /// Who serves a key, and the reshare under way: who is waited for, in which round, since when, and what to check
    Show {
        /// Key id
        key: u64,
        /// A relayer that carries the reshare: who said what, and when. Messages that it makes up are not believed
        #[arg(long, value_name = "URL", value_parser = relayer_url)]
        relayer: Option<Url>,
    },
    /// Ask for a reshare: a member is lost, or the shares are due for a refresh
    Request {
        /// Key id
        key: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// Draw the lost seats and the dealers
    Draw {
        /// Key id
        key: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// Start a reshare again that ran out of time
    Restart {
        /// Key id
        key: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// End the reshare of a key that was given up
    Cancel {
        /// Key id
        key: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// Make the new committee with what its members acknowledged
    Finalise {
        /// Key id
        key: u64,
        /// JSON file with shareKeys, groupKey, dealingsDigest and acknowledgements
        #[arg(long, value_name = "FILE")]
        transcript: PathBuf,
        #[command(flatten)]
        signing: Signing,
    },
    /// Show the votes of t members that a server is silent; its seat is drawn anew at the next reshare
    Vote {
        /// Key id
        key: u64,
        /// What a member's `stkr-server vote-silent` printed; once per member
        #[arg(long = "vote", value_name = "FILE", required = true)]
        votes: Vec<PathBuf>,
        #[command(flatten)]
        signing: Signing,
    },
    /// Free the seats of servers that a committee left behind, an evidence window after its handover
    FreeSeats {
        /// Key id
        key: u64,
        /// Committee epoch, from 1
        epoch: u32,
        #[command(flatten)]
        signing: Signing,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// All keys
    List,
    /// One key with its committee
    Show {
        /// Key id
        id: u64,
    },
    /// Ask every server of a key how far it has signed: from when on another validator client or gateway may sign
    SafeToMove {
        /// Key id, or the validator's public key (48 bytes, hex)
        key: String,
    },
    /// As a provider: ask for a withdrawal key, with a bond of 2 ETH that comes back when a pool uses it
    RequestWithdrawal {
        /// Shares that sign; one less of the members are online
        #[arg(long, value_name = "T", default_value_t = 5)]
        threshold: u8,
        /// Shares that exist
        #[arg(long, value_name = "N", default_value_t = 6)]
        members: u8,
        #[command(flatten)]
        signing: Signing,
    },
    /// A withdrawal key: who asked for it, which pool uses it, whether its bond is held
    ShowWithdrawal {
        /// Key id
        id: u64,
    },
    /// Give up a withdrawal key that no pool uses, or whose pool is cancelled
    GiveUp {
        /// Key id
        id: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// Get the bond of a withdrawal key back
    WithdrawBond {
        /// Key id
        id: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// Draw the committee of a requested key
    Draw {
        /// Key id
        id: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// Start a key again whose ceremony ran out of time
    Restart {
        /// Key id
        id: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// Make a key live with what its ceremony gave
    Finalise {
        /// Key id
        id: u64,
        /// JSON file with shareKeys, groupKey, dealingsDigest and acknowledgements
        #[arg(long, value_name = "FILE")]
        transcript: PathBuf,
        #[command(flatten)]
        signing: Signing,
    },
    /// Free the seats of a key that has ended
    FreeSeats {
        /// Key id
        id: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// Split a validator key that you have into shares, each readable by one server only
    ///
    /// Stop every validator client that has the key before you export its slashing history; whoever keeps a copy of the
    /// whole key can still get the validator slashed.
    Split(SplitArgs),
    /// Make the split key known to the chain, with the acknowledgement of every server; the sender is its owner
    ImportDealt {
        /// The file dealt-key.json of the split
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// What a server printed when it imported its share; once per server
        #[arg(long = "acknowledgement", value_name = "FILE", required = true)]
        acknowledgements: Vec<PathBuf>,
        /// Address of the key that will ask for duties
        #[arg(long, value_name = "ADDRESS")]
        duty_key: Address,
        #[command(flatten)]
        signing: Signing,
    },
    /// Owner of a dealt key: name another key that asks for its duties
    SetDutyKey {
        /// Key id
        id: u64,
        /// Address of the duty key; the zero address stops all duties
        duty_key: Address,
        #[command(flatten)]
        signing: Signing,
    },
    /// Owner of a dealt key: give it up
    Retire {
        /// Key id
        id: u64,
        #[command(flatten)]
        signing: Signing,
    },
    /// Governance: admit a pools contract
    AddConsumer {
        /// The contract
        consumer: Address,
        /// Announce it, for governance with a delay
        #[arg(long)]
        schedule: bool,
        #[command(flatten)]
        signing: Signing,
    },
    /// Governance: set how long a ceremony may take
    SetCeremonyWindow {
        /// From 600 to 604800
        seconds: u64,
        /// Announce it, for governance with a delay
        #[arg(long)]
        schedule: bool,
        #[command(flatten)]
        signing: Signing,
    },
}
fn relayer_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "the relayer is not a URL; write it as https://host:port".to_owned())
}
