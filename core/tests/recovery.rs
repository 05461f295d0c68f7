//! t operators put a key together, with the program of docs/disaster-recovery.md: from files as servers keep them to a keystore.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../examples/recovery/mod.rs"]
mod recovery;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use stkr_core::keystore::{Kdf, Keystore, StoreKey};
use stkr_core::testing::TrustedDealer;
use stkr_core::{PublicKey, SecretShare, ShareIndex, Threshold};

const CHEAP: Kdf = Kdf::Pbkdf2 { c: 16 };

/// A folder with what t operators bring: `points`, and per member `share-I.json` and its password, `pw`.
struct Table {
    folder: tempfile::TempDir,
    dealer: TrustedDealer,
    threshold: Threshold,
}

impl Table {
    fn new(t: u8, n: u8) -> Self {
        let threshold = Threshold::new(t, n).unwrap();
        let table =
            Self { folder: tempfile::tempdir().unwrap(), dealer: TrustedDealer::deal(threshold, [n; 32]), threshold };
        let keys = table
            .dealer
            .keys
            .share_keys()
            .iter()
            .chain([&table.dealer.keys.group_key()])
            .copied()
            .collect::<Vec<PublicKey>>();
        let points: Vec<u8> = keys.iter().flat_map(PublicKey::to_eip2537).collect();
        // As `stkr watch --json` prints it.
        table.write("points", &format!("\"0x{}\"\n", hex::encode(points)));
        table.write("pw", "eight horses\n");
        table
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The share of one member as its server keeps it, through `share`.
    fn bring(&self, share: &SecretShare) {
        let index = share.index();
        let store_key = StoreKey::random().unwrap();
        let sealed = store_key.seal_share(share).unwrap().to_json().unwrap();
        self.write(&format!("sealed-{index}"), &sealed);
        self.write(&format!("store-key-{index}"), &store_key.seal("of the server", CHEAP).unwrap().to_json().unwrap());
        self.write(&format!("store-password-{index}"), "of the server");
        let files = ["sealed", "store-key", "store-password"].map(|name| self.path(&format!("{name}-{index}")));
        let out = self.path(&format!("share-{index}"));
        let [sealed, store_key, store_password] = files;
        let arguments = ["share".into(), index.to_string(), sealed, store_key, store_password, out, self.path("pw")];
        recovery::run(&arguments).unwrap();
    }

    /// A share that is written for the test, quickly.
    fn lay(&self, name: &str, secret: &[u8]) {
        let keystore = Keystore::encrypt(secret, "eight horses", CHEAP, None, "", None).unwrap();
        self.write(name, &keystore.to_json().unwrap());
    }

    /// Joins the shares `index` that lie in the file `share-N`.
    fn join(&self, out: &str, shares: &[(u8, String)]) -> Result<(), String> {
        let mut arguments = vec![
            "join".to_owned(),
            self.path("points"),
            self.threshold.t().to_string(),
            self.path(out),
            self.path("pw"),
        ];
        arguments.extend(shares.iter().map(|(index, file)| format!("{index}:{}:{}", self.path(file), self.path("pw"))));
        recovery::run(&arguments).map_err(|error| error.to_string())
    }

    fn named(&self, indices: &[u8]) -> Vec<(u8, String)> {
        indices.iter().map(|index| (*index, format!("share-{index}"))).collect()
    }

    fn check(&self, out: &str) {
        let keystore = Keystore::from_json(&std::fs::read_to_string(self.path(out)).unwrap()).unwrap();
        let secret: [u8; 32] = keystore.decrypt("eight horses").unwrap().as_slice().try_into().unwrap();
        let whole = SecretShare::from_bytes(ShareIndex::new(1).unwrap(), &secret).unwrap();
        assert_eq!(whole.public_key(), self.dealer.keys.group_key());
        assert_eq!(keystore.claimed_pubkey(), Some(hex::encode(whole.public_key().to_compressed()).as_str()));
        // It signs as the committee does.
        assert_eq!(whole.sign(&[7; 32]).signature, self.dealer.group_signature(&[7; 32]));
        let mode = std::fs::metadata(Path::new(&self.path(out))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn three_of_four_operators_put_the_key_together_from_the_files_of_their_servers() {
    let table = Table::new(3, 4);
    for position in [3, 0, 2] {
        table.bring(&table.dealer.shares[position]);
    }
    table.join("key", &table.named(&[4, 1, 3])).unwrap();
    table.check("key");
    let again = table.join("key", &table.named(&[4, 1, 3])).unwrap_err();
    assert!(again.contains("key cannot be written"), "what lies there is not overwritten: {again}");
}

#[test]
fn a_wrong_share_is_named_and_nothing_is_written() {
    let table = Table::new(3, 4);
    for share in &table.dealer.shares {
        table.lay(&format!("share-{}", share.index()), &*share.to_bytes());
    }
    let mut altered = *table.dealer.shares[1].to_bytes();
    altered[31] ^= 1;
    table.lay("altered", &altered);
    table.lay("short", &[5; 31]);
    table.lay("zero", &[0; 32]);
    let with = |second: (u8, &str)| {
        let mut shares = table.named(&[1, 2, 3]);
        shares[1] = (second.0, second.1.to_owned());
        shares
    };
    let cases = [
        (with((2, "altered")), "share 2 (", "is wrong: its key is"),
        (with((2, "share-4")), "share 2 (", "is wrong: its key is"),
        (with((4, "share-2")), "share 4 (", "is wrong: its key is"),
        (with((2, "short")), "share 2 (", "has 31 bytes instead of 32"),
        (with((2, "zero")), "share 2 (", "the share is 0"),
        (with((9, "share-2")), "the key has no share 9", ""),
        (with((3, "share-3")), "share 3 was given twice", ""),
        (table.named(&[1, 2]), "2 shares were given; exactly 3 make the key", ""),
        (table.named(&[1, 2, 3, 4]), "4 shares were given; exactly 3 make the key", ""),
    ];
    for (shares, who, what) in cases {
        let error = table.join("key", &shares).unwrap_err();
        assert!(error.starts_with(who) && error.contains(what), "{error}");
        assert!(!Path::new(&table.path("key")).exists());
    }
    table.write("pw", "nine horses\n");
    let error = table.join("key", &table.named(&[1, 2, 3])).unwrap_err();
    assert!(error.starts_with("share 1 (") && error.contains("the password is wrong"), "{error}");
}

#[test]
fn fewer_shares_than_the_threshold_make_no_key_whatever_they_call_it() {
    let mut table = Table::new(4, 5);
    for share in &table.dealer.shares {
        table.lay(&format!("share-{}", share.index()), &*share.to_bytes());
    }
    table.threshold = Threshold::new(3, 5).unwrap();
    let error = table.join("key", &table.named(&[1, 2, 5])).unwrap_err();
    assert_eq!(error, "the shares do not make the key that the chain has: is the threshold right?");
    assert!(!Path::new(&table.path("key")).exists());
}
