//! Names for the string forms of `docs/protocol.md` in OpenAPI descriptions: a reader of the description, and a program that
//! makes requests from it, knows exactly which strings are taken.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// One type per form: its name, its pattern, and what it is.
macro_rules! forms {
    ($($name:ident: $pattern:expr, $description:literal;)*) => {
        $(
            #[doc = $description]
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let object = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
                    object.pattern(Some($pattern)).description(Some($description)).into()
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed(stringify!($name))
                }
            }
        )*
    };
}

forms! {
    // Exact patterns of the large ones would be a page long: these end at 10^19 and 10^9, below the largest value.
    U64: "^(0|[1-9][0-9]{0,18})$", "Unsigned integer of at most 64 bits, decimal, without leading zeros.";
    U32: "^(0|[1-9][0-9]{0,8})$", "Unsigned integer of at most 32 bits, decimal, without leading zeros.";
    U16: "^(0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$",
        "Unsigned integer of at most 16 bits, decimal, without leading zeros.";
    U8: "^(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])$",
        "Unsigned integer of at most 8 bits, decimal, without leading zeros.";
    Index: "^([1-9]|[1-5][0-9]|6[0-4])$", "Share index, 1 to 64, decimal.";
    Hex: "^0x([0-9a-f]{2})*$", "Bytes, lowercase hex.";
    Hex4: "^0x[0-9a-f]{8}$", "4 bytes, lowercase hex.";
    Hex48: "^0x[0-9a-f]{96}$", "48 bytes, lowercase hex.";
    Hex65: "^0x[0-9a-f]{130}$", "65 bytes, lowercase hex: r, s and v of a signature.";
    PartialBytes: "^0x([0-9a-f]{2}){0,1024}$", "Lowercase hex: a G2 point (EIP-2537) of 256 bytes; any other length is the server's fault.";
    OneTimeKeyBytes: "^0x([0-9a-f]{2}){0,33}$", "Lowercase hex: a compressed secp256k1 point of 33 bytes; any less is its sender's fault.";
    OneTimeKeysBytes: "^0x([0-9a-f]{2}){0,2112}$", "Lowercase hex: at most 64 compressed secp256k1 points of 33 bytes.";
    CommitmentsBytes: "^0x([0-9a-f]{2}){0,8192}$", "Lowercase hex: at most 64 G1 points (EIP-2537) of 128 bytes.";
    PossessionBytes: "^0x([0-9a-f]{2}){0,256}$", "Lowercase hex: a G2 point (EIP-2537) of 256 bytes; any less is its sender's fault.";
    SharesBytes: "^0x([0-9a-f]{2}){0,2048}$", "Lowercase hex: at most 64 encrypted shares of 32 bytes.";
    Hash: "^0x[0-9a-f]{64}$", "32 bytes, lowercase hex.";
    Account: "^0x[0-9a-f]{40}$", "Address, lowercase hex.";
}

/// A duty: the request object of Web3Signer's `POST /api/v1/eth2/sign/{identifier}`.
#[derive(Clone, Copy, Debug)]
pub struct Web3SignerRequest;

impl PartialSchema for Web3SignerRequest {
    fn schema() -> RefOr<Schema> {
        let kinds = stkr_duties::DutyKind::ALL.iter().filter(|kind| **kind != stkr_duties::DutyKind::Deposit);
        let kinds: Vec<_> = kinds.map(|kind| kind.name()).collect();
        // No more of it is described: a duty that does not read is refused by itself, the rest of its batch is answered.
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Object))
            .additional_properties(Some(utoipa::openapi::schema::AdditionalProperties::FreeForm(true)))
            .description(Some(format!(
                "Request object of Web3Signer's ETH2 API: type ({}), the member of its type, fork_info where the type has \
                 it, signingRoot and proofs if wanted.",
                kinds.join(", ")
            )))
            .into()
    }
}

impl ToSchema for Web3SignerRequest {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Web3SignerRequest")
    }
}

/// Schema of an enum that serde tags internally: each variant's object with the tag among its properties.
///
/// utoipa would describe it as "the object, and also an object with the tag". Our objects allow no field beyond their own, so
/// no value at all would be both.
pub(crate) fn tagged<const N: usize>(tag: &str, variants: [(&str, RefOr<Schema>); N]) -> RefOr<Schema> {
    let described = variants.into_iter().map(|(value, schema)| match schema {
        RefOr::T(Schema::Object(mut object)) => {
            let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
            object.properties.insert(tag.to_owned(), text.enum_values(Some([value])).into());
            object.required.insert(0, tag.to_owned());
            RefOr::T(Schema::Object(object))
        }
        other => other,
    });
    described.fold(OneOfBuilder::new(), OneOfBuilder::item).into()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::sign::{DepositRequest, SignRequest};

    /// The object has exactly the fields that are required, which are all that are described, and the tag's value.
    pub(crate) fn assert_described(object: &Value, schema: &Value) {
        let mut required: Vec<_> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        required.sort_unstable();
        let keys = |value: &Value| {
            let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys(object), required);
        assert_eq!(keys(&schema["properties"]), required);
        let tags = schema["properties"].as_object().unwrap().iter().filter(|(_, property)| property["enum"].is_array());
        for (tag, property) in tags {
            assert_eq!(property["enum"], Value::from(vec![object[tag].clone()]), "{tag}");
        }
        assert_eq!(schema["additionalProperties"], Value::Bool(false));
    }

    #[test]
    fn a_request_to_sign_has_the_fields_of_its_description() {
        let deposit = stkr_duties::DepositMessage {
            pubkey: [1; 48],
            withdrawal_credentials: alloy_primitives::B256::repeat_byte(2),
            amount_gwei: 3,
        };
        let request = serde_json::to_value(SignRequest::from(DepositRequest::new(4, &deposit, [5; 4]))).unwrap();
        let schema = serde_json::to_value(SignRequest::schema()).unwrap();
        assert_described(&request, &schema["oneOf"][0]);
        assert_eq!(request["type"], "DEPOSIT");
    }
}
