//! Every source of a token × every algorithm × everything that can be wrong with it.

use base64::Engine;
use gateway::auth::{
    COOKIE, Credential, MAX_TOKEN_BYTES, Origins, SUBPROTOCOL, Verifier, credential,
};
use http::HeaderMap;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::signer::{
    ALGORITHMS, Signer, base64, claims, claims_for, hmac_token, jwks, message, now,
};
use crate::{Folder, class, settings, verifier};

/// A token, what it is and what must become of it.
type Row = (String, String, &'static str);

const SOURCES: [&str; 3] = ["header", "subprotocol", "cookie"];

struct Keys(Vec<Signer>);

impl Keys {
    fn new() -> Self {
        Self(
            ALGORITHMS
                .map(|name| Signer::new(name, &format!("key-{name}")))
                .into(),
        )
    }

    fn verifier(&self, folder: &Folder) -> Verifier {
        let lines: String = self.0.iter().filter_map(Signer::line).collect();
        let all: Vec<&Signer> = self.0.iter().collect();
        let mut settings = settings();
        settings.secrets = Some(folder.write("secrets", &lines));
        settings.jwks_file = Some(folder.write("jwks.json", &jwks(&all)));
        verifier(settings)
    }
}

/// The request that brings the token, read back as the gateway reads it.
fn carried(source: &str, token: &str) -> Result<String, &'static str> {
    let mut headers = HeaderMap::new();
    let mut send = |name: &'static str, value: String| headers.append(name, value.parse().unwrap());
    match source {
        "header" => send("authorization", format!("Bearer {token}")),
        "subprotocol" => {
            let encoded = base64(token.as_bytes());
            send(
                "sec-websocket-protocol",
                format!("storyfleet.v1, {SUBPROTOCOL}{encoded}"),
            )
        }
        _ => {
            send("host", "game.example".to_owned());
            send("origin", "https://game.example".to_owned());
            send("cookie", format!("a=b; {COOKIE}={token}"))
        }
    };
    match credential(&headers, Some("cursor=x"), &Origins::default()) {
        Ok(Credential::Token(token) | Credential::Cookie(token)) => {
            Ok(token.expose_secret().to_owned())
        }
        Ok(Credential::Ticket(_)) => panic!("no ticket was sent"),
        Err(refusal) => Err(refusal.as_str()),
    }
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

fn without(claim: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(claim);
    claims
}

fn claim_rows(signer: &Signer) -> Vec<Row> {
    let row =
        |what: &str, claims: &Value, becomes| (what.to_owned(), signer.token(claims), becomes);
    vec![
        row("valid", &claims(), "good"),
        row(
            "aud in a list",
            &with("aud", json!(["x", "storyfleet"])),
            "good",
        ),
        row(
            "expired within the leeway",
            &with("exp", json!(now() - 3)),
            "good",
        ),
        row("expired", &with("exp", json!(now() - 60)), "expired"),
        row("not yet", &with("nbf", json!(now() + 60)), "not_yet"),
        row("wrong aud", &with("aud", json!("elsewhere")), "audience"),
        row("wrong iss", &with("iss", json!("somebody")), "issuer"),
        row("no exp", &without("exp"), "claims"),
        row("no aud", &without("aud"), "claims"),
        row("no iss", &without("iss"), "claims"),
        row("no sub", &without("sub"), "claims"),
        row(
            "bad role",
            &with("stories", json!({"castle": "king"})),
            "claims",
        ),
        row(
            "as long as may be",
            &claims_for(signer, MAX_TOKEN_BYTES - 2),
            "good",
        ),
        row(
            "oversized",
            &claims_for(signer, MAX_TOKEN_BYTES + 1),
            "too_large",
        ),
    ]
}

fn key_rows(signer: &Signer) -> Vec<Row> {
    let other = Signer::new(signer.algorithm, &signer.kid);
    let header = |field: &str, value: Value| {
        let mut header = signer.header();
        header[field] = value;
        signer.sign(&header, &claims())
    };
    let nameless = json!({"alg": signer.algorithm});
    let good = signer.token(&claims());
    let (body, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = good.split_once('.').unwrap();
    let payload = base64(with("sub", json!("admin")).to_string().as_bytes());
    let none = message(&json!({"alg": "none", "kid": signer.kid}), &claims());
    let rows = [
        ("no kid", signer.sign(&nameless, &claims()), "good"),
        ("wrong key", other.token(&claims()), "signature"),
        (
            "wrong key, no kid",
            other.sign(&nameless, &claims()),
            "signature",
        ),
        ("unknown kid", header("kid", json!("nobody")), "key"),
        ("alg none", format!("{none}."), "algorithm"),
        (
            "alg none, signed",
            format!("{none}.{signature}"),
            "algorithm",
        ),
        ("alg None", header("alg", json!("None")), "algorithm"),
        ("alg HS512", header("alg", json!("HS512")), "algorithm"),
        ("alg PS256", header("alg", json!("PS256")), "algorithm"),
        ("no alg", header("alg", json!(null)), "malformed"),
        ("crit", header("crit", json!(["b64"])), "malformed"),
        (
            "own key in the header",
            {
                let mut header = other.header();
                header["jwk"] = json!(other.jwk());
                other.sign(&header, &claims())
            },
            "signature",
        ),
        ("no signature", format!("{body}."), "signature"),
        (
            "signature cut",
            good[..good.len() - 4].to_owned(),
            "signature",
        ),
        (
            "another payload",
            format!("{head}.{payload}.{signature}"),
            "signature",
        ),
        ("two parts", body.to_owned(), "malformed"),
        ("four parts", format!("{good}.x"), "malformed"),
        ("no JSON", "a.b.c".to_owned(), "malformed"),
    ];
    rows.map(|(what, token, becomes)| (what.to_owned(), token, becomes))
        .into()
}

/// A public key is known to all: it must be no secret, whatever form it is taken in.
fn confused_rows(signer: &Signer) -> Vec<Row> {
    let mut rows = Vec::new();
    for (form, key) in ["raw", "der", "pem", "jwk"]
        .iter()
        .zip(signer.public_bytes())
    {
        for (header, becomes) in [
            (json!({"alg": "HS256"}), "signature"),
            (json!({"alg": "HS256", "kid": signer.kid}), "key"),
            (
                json!({"alg": signer.algorithm, "kid": signer.kid}),
                "signature",
            ),
        ] {
            let what = format!("HMAC with the {form} public key as {header}");
            rows.push((what, hmac_token(&header, &claims(), &key), becomes));
        }
    }
    rows
}

/// A key's name under another algorithm than its own.
fn mismatched_rows(keys: &Keys, signer: &Signer) -> Vec<Row> {
    let others = keys
        .0
        .iter()
        .filter(|other| other.algorithm != signer.algorithm);
    let row = |other: &Signer| {
        let header = json!({"alg": other.algorithm, "kid": signer.kid});
        // Secrets and published keys are kept apart: a name of the one kind is none of the other.
        let shares = signer.jwk().is_some() == other.jwk().is_some();
        let becomes = if shares { "algorithm" } else { "key" };
        (
            format!("as {}", other.algorithm),
            signer.sign(&header, &claims()),
            becomes,
        )
    };
    others.map(row).collect()
}

#[tokio::test]
async fn each_token_is_taken_or_refused_for_its_reason_from_every_source() {
    let (folder, keys) = (Folder::new(), Keys::new());
    let verifier = keys.verifier(&folder);
    let mut seen = 0;
    for signer in &keys.0 {
        let mut rows = claim_rows(signer);
        rows.extend(key_rows(signer));
        rows.extend(confused_rows(signer));
        rows.extend(mismatched_rows(&keys, signer));
        for (what, token, becomes) in &rows {
            for source in SOURCES {
                let found = match carried(source, token) {
                    Ok(token) => class(&verifier, &token).await,
                    Err(refused) => refused,
                };
                let told = format!("{} from {source}, {what}", signer.algorithm);
                assert_eq!(found, *becomes, "{told}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 3 * (4 * (14 + 18 + 3) + 3 * 12));
}

#[tokio::test]
async fn without_secrets_no_hmac_is_taken_at_all() {
    let (folder, keys) = (Folder::new(), Keys::new());
    let all: Vec<&Signer> = keys.0.iter().collect();
    let mut settings = settings();
    settings.jwks_file = Some(folder.write("jwks.json", &jwks(&all)));
    let verifier = verifier(settings);
    for signer in &keys.0 {
        for (what, token, _) in confused_rows(signer) {
            let found = class(&verifier, &token).await;
            assert!(
                matches!(found, "algorithm" | "signature"),
                "{what}: {found}"
            );
        }
    }
    assert_eq!(
        class(&verifier, &keys.0[0].token(&claims())).await,
        "algorithm"
    );
}

#[tokio::test]
async fn a_token_of_8_kib_is_taken_and_one_byte_more_is_not() {
    let (folder, keys) = (Folder::new(), Keys::new());
    let verifier = keys.verifier(&folder);
    let token = keys.0[0].token(&claims());
    let pad = |bytes: usize| format!("{token}{}", "A".repeat(bytes - token.len()));
    assert_eq!(class(&verifier, &pad(MAX_TOKEN_BYTES)).await, "signature");
    assert_eq!(
        class(&verifier, &pad(MAX_TOKEN_BYTES + 1)).await,
        "too_large"
    );
}

#[tokio::test]
async fn a_token_with_padding_or_other_base64_is_no_token() {
    let (folder, keys) = (Folder::new(), Keys::new());
    let verifier = keys.verifier(&folder);
    let message = message(&keys.0[0].header(), &claims());
    let (head, payload) = message.split_once('.').unwrap();
    let standard =
        base64::engine::general_purpose::STANDARD.encode(b"{\"alg\":\"HS256\",\"x\":\"??>>\"}");
    for token in [
        format!("{head}=.{payload}.AAAA"),
        format!("{standard}.{payload}.AAAA"),
        String::new(),
        "..".to_owned(),
    ] {
        assert_eq!(class(&verifier, &token).await, "malformed", "{token}");
    }
}

#[tokio::test]
async fn no_refusal_repeats_what_was_sent() {
    let (folder, keys) = (Folder::new(), Keys::new());
    let verifier = keys.verifier(&folder);
    for claims in [
        with("name", json!("<script>\u{7}")),
        with("iss", json!("<script>")),
        with("stories", json!({"<script>": "owner"})),
    ] {
        let refusal = verifier
            .verify(&keys.0[0].token(&claims))
            .await
            .unwrap_err();
        assert!(!format!("{refusal} {refusal:?}").contains("script"));
    }
    assert!(
        !format!("{verifier:?}")
            .contains(keys.0[0].line().unwrap().split_once(' ').unwrap().1.trim())
    );
}
