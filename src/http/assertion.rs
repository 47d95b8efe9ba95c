//! What a client proves itself with instead of a secret: a short text of its own, signed with a key that never
//! leaves (`private_key_jwt`; RFC 7523 section 2.2, SEP-1046).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use crate::ports::SecretValue;

/// As what it is sent.
pub(super) const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Seconds for which it is good: it is used at once, and clocks differ a little.
const LIFE: u64 = 60;
const UNUSABLE: &str = "the client's private key is none of ECDSA (P-256), Ed25519 or RSA (2048 to 4096 bits), in PEM as PKCS #8";

enum Key {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Key {
    fn read(pem: &[u8]) -> Option<Self> {
        let der = match PrivateKeyDer::from_pem_slice(pem).ok()? {
            PrivateKeyDer::Pkcs8(der) => der,
            PrivateKeyDer::Pkcs1(der) => {
                let key = RsaKeyPair::from_der(der.secret_pkcs1_der()).ok()?;
                return Some(Self::Rsa(Box::new(key)));
            }
            _ => return None,
        };
        let der = der.secret_pkcs8_der();
        let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
        let p256 = p256.ok().map(Self::P256);
        // As OpenSSL writes it, without the public key.
        let ed25519 = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Self::Ed25519);
        let rsa = || RsaKeyPair::from_pkcs8(der).ok().map(|key| Self::Rsa(Box::new(key)));
        p256.or_else(ed25519).or_else(rsa)
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::P256(key) => Some(key.sign(&random, message).ok()?.as_ref().to_vec()),
            Self::Ed25519(key) => Some(key.sign(message).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

/// Says to `audience` that this is `client`; `now` in seconds since the epoch. Each is good once.
///
/// # Errors
/// When the key cannot be used; nothing of it is told.
pub(super) fn assertion(
    client: &str,
    (key, id): (&SecretValue, Option<&str>),
    audience: &str,
    now: u64,
) -> Result<String, String> {
    let key = Key::read(key.expose()).ok_or(UNUSABLE)?;
    let mut header = json!({"alg": key.algorithm(), "typ": "JWT"});
    if let Some(id) = id {
        header["kid"] = id.into();
    }
    let once = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
    let claims =
        json!({"iss": client, "sub": client, "aud": audience, "iat": now, "exp": now + LIFE, "jti": once});
    let encoded = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encoded(&header), encoded(&claims));
    let signature = key.sign(message.as_bytes()).ok_or("the client's private key signs nothing")?;
    Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn what_is_no_key_is_told_without_what_it_is() {
        let broken = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        for text in ["", "secret", broken] {
            let key = SecretValue::new(text.as_bytes());
            assert_eq!(assertion("a", (&key, None), "b", 1), Err(UNUSABLE.to_owned()), "{text}");
        }
    }

    #[test]
    fn none_is_as_another() {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = BASE64_STANDARD.encode(document.expect("a key"));
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{document}\n-----END PRIVATE KEY-----\n");
        let key = SecretValue::new(pem.into_bytes());
        let made = || assertion("a", (&key, Some("k")), "https://b.example", 1).expect("it signs");
        let (one, two) = (made(), made());
        assert_ne!(one, two);
        let part = |at: usize| -> serde_json::Value {
            let text =
                BASE64_URL_SAFE_NO_PAD.decode(one.split('.').nth(at).expect("a part")).expect("base64");
            serde_json::from_slice(&text).expect("JSON")
        };
        assert_eq!(part(0), json!({"alg": "ES256", "typ": "JWT", "kid": "k"}));
        let claims = part(1);
        let said = ["iss", "sub", "aud"].map(|name| claims[name].as_str().unwrap_or_default().to_owned());
        assert_eq!(said, ["a", "a", "https://b.example"]);
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1), &json!(61)));
    }
}
