use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::*;

fn config(users: &[(&str, &str)]) -> BasicAuthConfig {
    let users: BTreeMap<_, _> =
        users.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect();
    BasicAuthConfig { realm: "a \"b\"".into(), users, ..BasicAuthConfig::default() }
}

fn compile(config: &BasicAuthConfig) -> Result<Users, Vec<String>> {
    let mut told = Vec::new();
    let users = Users::compile(Some(config), &mut |key, what| told.push(format!("{key}: {what}")));
    users.ok_or(told)
}

fn line(text: &str) -> HeaderMap {
    let value = format!("Basic {}", STANDARD.encode(text));
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
}

/// Of the password `secret`, each by a program that people make them with.
const SECRETS: [(&str, &str); 12] = [
    // crypt(3), as htpasswd -nB and Python's bcrypt write it
    ("bcrypt 2y", "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"),
    ("bcrypt 2b", "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"),
    // openssl passwd -5 -salt saltstring secret
    ("sha256", "$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi."),
    // openssl passwd -6 -salt saltstring secret
    (
        "sha512",
        "$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.",
    ),
    // perl -e 'print crypt("secret", q($5$rounds=1234$saltstring))'
    ("sha256, rounds", "$5$rounds=1234$saltstring$ZOULjQTUHEKr0TZy95SRZhJXrYe.bGKvS3zomKKsX./"),
    (
        "sha512, rounds",
        "$6$rounds=1234$saltstring$jEjbdVgI3DJ2.2esJ0sGPhhOCjuOMC3NT4lLq17ZGmWxZHhdBv5MlVgCU2CU8OvKOT9He.hkrN.SUx28Eu6OE0",
    ),
    // perl -e 'print crypt("secret", q($y$j9T$F5Jx5fExrKuPp53xLKQ..1$))', and with $y$j75$
    ("yescrypt", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$GmcwIgvdUC9qLWcKCi6gklUa1dM3ziD43YxYNURLKy0"),
    ("yescrypt, cheaper", "$y$j75$saltsalt$0gBD67sgmJgRX3RZ6wHHO7sHimQEWGCWN85o4Twogh2"),
    // openssl passwd -apr1 -salt saltsalt secret
    ("apr1", "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0"),
    // openssl passwd -1 -salt saltsalt secret
    ("md5", "$1$saltsalt$9xy1btjgzLYfb7hivXtC//"),
    // printf secret | openssl sha1 -binary | base64
    ("sha1", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
    ("plain", "{PLAIN}secret"),
];

#[test]
fn each_kind_of_hash_takes_its_password_and_no_other() {
    for (case, text) in SECRETS {
        let hash = Hash::parse(text).unwrap_or_else(|why| panic!("{case} {why}"));
        assert!(hash.verify(b"secret"), "{case}");
        for wrong in ["Secret", "secret ", "", "secre"] {
            assert!(!hash.verify(wrong.as_bytes()), "{case}: {wrong:?}");
        }
    }
}

#[test]
fn what_cannot_be_verified_is_refused_without_showing_it() {
    for (case, text, want) in [
        ("old crypt", "rlcg0.fZequS.", "is of the old crypt, by DES"),
        ("a password", "hunter2", "is of no known kind"),
        ("empty", "", "is of no known kind"),
        ("cut off", "$2y$05$short", "is cut off or garbled"),
        ("a salt alone", "$6$salt", "is cut off or garbled"),
        ("costly", "$2y$20$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "the cost 20"),
        ("many rounds", &format!("$5$rounds=2000000$salt${}", "a".repeat(43)), "2000000 rounds"),
        ("a cut yescrypt", "$y$j9T$abc$def", "is cut off or garbled"),
        ("a yescrypt of a gigabyte", &format!("$y$jFT$salt${}", "a".repeat(43)), "is too costly"),
        (
            "a longer yescrypt",
            &format!("$y$j9T.5$salt${}", "a".repeat(43)),
            "is cut off or garbled",
        ),
        ("no digest", "{SHA}abc", "is cut off or garbled"),
    ] {
        let told = compile(&config(&[("ada", text)])).unwrap_err();
        assert!(told.len() == 1 && told[0].contains(want), "{case}: {told:?}");
        assert!(text.is_empty() || !told[0].contains(text), "{case}: {told:?}");
    }
    let nobody = compile(&config(&[])).unwrap_err();
    assert!(nobody[0].contains("names nobody"), "{nobody:?}");
}

#[test]
fn a_file_of_users_is_read_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users");
    std::fs::write(&file, "# staff\n\nada:{PLAIN}a\nbob:{PLAIN}b:a remark\n").unwrap();
    let both = BasicAuthConfig { users_file: Some(file.clone()), ..config(&[("eve", "{PLAIN}e")]) };
    let users = compile(&both).unwrap();
    for (name, password) in [("ada", "a"), ("bob", "b"), ("eve", "e")] {
        let (hash, own) = users.hash(name);
        assert!(own && hash.verify(password.as_bytes()), "{name}");
    }
    assert!(!users.hash("mallory").1);
    assert_eq!(users.challenge, "Basic realm=\"a \\\"b\\\"\"");
    std::fs::write(&file, "ada:{PLAIN}a\nbob\n").unwrap();
    let told = compile(&both).unwrap_err();
    assert!(told[0].contains("users:2: the hash of \"bob\""), "{told:?}");
    std::fs::remove_file(&file).unwrap();
    assert!(compile(&both).unwrap_err()[0].contains("users_file"));
}

#[test]
fn credentials_are_read_as_they_are_meant_or_not_at_all() {
    let long = format!("ada:{}", "x".repeat(600));
    for (case, value, want) in [
        ("usual", format!("Basic {}", STANDARD.encode("ada:a:b")), Some(("ada", "a:b"))),
        ("case", format!("bAsIc   {}", STANDARD.encode("ada:")), Some(("ada", ""))),
        ("no colon", format!("Basic {}", STANDARD.encode("ada")), None),
        ("another scheme", "Bearer abc".to_owned(), None),
        ("no space", format!("Basic{}", STANDARD.encode("ada:a")), None),
        ("garbled", "Basic %%%".to_owned(), None),
        ("short", "Bas".to_owned(), None),
        ("long", format!("Basic {}", STANDARD.encode(&long)), None),
    ] {
        let line = HeaderValue::from_str(&value).unwrap();
        let read = credentials(&line);
        let read =
            read.as_ref().map(|(name, password)| (&**name, std::str::from_utf8(password).unwrap()));
        assert_eq!(read, want, "{case}");
    }
}

#[tokio::test]
async fn what_was_good_is_remembered_and_what_was_not_too() {
    let registry = prometheus::Registry::new();
    let metrics = AuthMetrics::register(&registry).unwrap();
    let count = |result: &str| {
        let families = registry.gather();
        let of = families[0].get_metric().iter().find(|m| m.get_label()[0].value() == result);
        of.unwrap().get_counter().get_value() as u64
    };
    let gate = Gate::new(Verifying::new().unwrap());
    let users = compile(&config(&[("ada", "{PLAIN}a"), ("bob", "{PLAIN}b")])).unwrap();
    for (case, headers, want) in [
        ("none", HeaderMap::new(), Err(401)),
        ("good", line("ada:a"), Ok(())),
        ("good again", line("ada:a"), Ok(())),
        ("another's password", line("ada:b"), Err(401)),
        ("the same again", line("ada:b"), Err(401)),
        ("nobody, with the first one's password", line("mallory:a"), Err(401)),
        ("and again", line("mallory:a"), Err(401)),
    ] {
        let admitted = gate.admit(&users, &headers, &metrics).await;
        assert_eq!(admitted.map_err(|refusal| refusal.status), want, "{case}");
    }
    assert_eq!(
        [count("verified"), count("remembered"), count("missing"), count("wrong")],
        [1, 1, 1, 4]
    );
    // Another stored hash: what was remembered is worth nothing.
    let others = compile(&config(&[("ada", "{PLAIN}c")])).unwrap();
    assert!(gate.admit(&others, &line("ada:a"), &metrics).await.is_err());
    let twice = line("ada:a").into_iter().chain(line("ada:a")).fold(
        HeaderMap::new(),
        |mut lines, (_, value)| {
            lines.append(AUTHORIZATION, value);
            lines
        },
    );
    assert!(gate.admit(&users, &twice, &metrics).await.is_err(), "which of the two is meant?");
}
