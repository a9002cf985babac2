use super::*;

const PLAIN: &str =
    "{\n\t\"auths\": {\n\t\t\"r.test\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t}\n}\n";

fn change(text: &str, target: &str, login: Option<(&str, &str)>) -> Result<(String, bool), String> {
    let mut file = LoginsFile {
        path: "auth.json".into(),
        text: text.to_owned(),
        before: None,
        _lock: None,
    };
    let had = file
        .change(&target.parse().unwrap(), login)
        .map_err(|failure| failure.to_string())?;
    Ok((file.text, had))
}

#[test]
fn a_login_is_added_replaced_and_removed_and_the_rest_stays_as_it_was_written() {
    let login = Some(("u", "p"));
    for empty in ["", "\n", "{}"] {
        let (text, had) = change(empty, "r.test", login).unwrap();
        assert_eq!((text.as_str(), had), (PLAIN, false), "{empty:?}");
    }
    let odd = "{ \"HttpHeaders\" : {\"b\":1,\"a\":2.50},\r\n \"auths\":{\"other.test\":{\"auth\" : \"eDp5\", \"x\":1e2}, \"https://R.test/v1/\":{\"identitytoken\":\"t\"}} ,\"currentContext\":\"c\" }";
    let (text, had) = change(odd, "r.test", login).unwrap();
    assert!(had);
    assert_eq!(
        text,
        "{ \"HttpHeaders\" : {\"b\":1,\"a\":2.50},\r\n \"auths\":{\n\t\t\"other.test\": {\"auth\" : \"eDp5\", \"x\":1e2},\n\t\t\"r.test\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t} ,\"currentContext\":\"c\" }"
    );
    let (less, had) = change(&text, "r.test", None).unwrap();
    assert!(
        had && !less.contains("\"r.test\"") && less.contains("\"x\":1e2") && less.contains("2.50")
    );
    assert_eq!(change(&less, "r.test", None), Ok((less.clone(), false)));
    let (none, _) = change(PLAIN, "r.test", None).unwrap();
    assert_eq!(none, "{\n\t\"auths\": {}\n}\n");
    for without in [
        "{\"credsStore\": \"\", \"x\": [1]}",
        "\u{feff}{\"auths\": null}",
    ] {
        let (text, _) = change(without, "r.test/team", login).unwrap();
        let json = text.trim_start_matches('\u{feff}');
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(value["auths"]["r.test/team"]["auth"], "dTpw", "{text}");
        assert_eq!(
            text.starts_with('\u{feff}'),
            without.starts_with('\u{feff}')
        );
    }
}

#[test]
fn logins_of_others_and_of_other_namespaces_are_not_touched() {
    let mut text = String::new();
    for target in [
        "r.test",
        "r.test/team",
        "r.test:5000",
        "docker.io",
        "docker.io/team",
    ] {
        text = change(&text, target, Some(("u", target))).unwrap().0;
    }
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<_> = value["auths"].as_object().unwrap().keys().collect();
    let expected = [
        "docker.io/team",
        "https://index.docker.io/v1/",
        "r.test",
        "r.test/team",
        "r.test:5000",
    ];
    assert_eq!(keys, expected);
    for (target, left) in [("r.test", 4), ("index.docker.io", 3), ("docker.io/team", 2)] {
        text = change(&text, target, None).unwrap().0;
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["auths"].as_object().unwrap().len(), left);
    }
}

#[test]
fn a_file_that_cannot_be_changed_safely_is_refused_without_its_secrets() {
    for (text, reason) in [
        (
            "{\"auths\": {\"r.test\": {\"auth\": \"c2VjcmV0\"}}",
            "line 1 column",
        ),
        ("[\"c2VjcmV0\"]", "line 1 column"),
        ("c2VjcmV0", "line 1 column"),
        ("{\"auths\": \"c2VjcmV0\"}", "its auths is not an object"),
        ("{\"auths\": {}, \"auths\": {}}", "has auths twice"),
        ("{\"credsStore\": \"pass\"}", "docker-credential-pass"),
        ("{\"credsStore\": 7}", "its credsStore is not a name"),
        (
            "{\"credHelpers\": {\"r.test\": \"ecr\"}}",
            "docker-credential-ecr",
        ),
        ("{\"credHelpers\": []}", "its credHelpers is not an object"),
    ] {
        let error = change(text, "r.test", Some(("u", "p"))).unwrap_err();
        assert!(
            error.contains(reason) && !error.contains("c2VjcmV0"),
            "{error}"
        );
        assert!(error.starts_with("auth.json: "), "{error}");
    }
    let others = "{\"credHelpers\": {\"other.test\": \"ecr\"}}";
    assert!(change(others, "r.test", Some(("u", "p"))).is_ok());
}

#[test]
fn a_target_is_a_registry_or_a_namespace_that_its_key_finds_again() {
    for text in [
        "r.test",
        "r.test:5000/team/app",
        "docker.io",
        "localhost:5000",
    ] {
        assert_eq!(text.parse::<LoginTarget>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "https://r.test",
        "docker://r.test",
        "r.test/",
        "r.test/Team",
        "r.test/v2",
        "u@r.test",
    ] {
        assert!(text.parse::<LoginTarget>().is_err(), "{text}");
    }
}
