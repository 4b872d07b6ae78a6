use std::path::Path;

use fred::types::config::ServerConfig;

use super::*;
use crate::backend::redis::client_config;
use crate::node::config::ServeArgs;
use crate::node::config::secrets::{Hidden, JwtSecrets};

#[test]
fn password_in_url_is_not_printed() {
    let database = DatabaseUrl::parse("mysql://pin:s3cret@db.example:3306/pintalk?ssl-key=s3cret").unwrap();
    let redis =
        RedisUrl::parse("redis-sentinel://:s3cret@a:26379?sentinelPassword=s3cret&sentinelServiceName=p").unwrap();
    let smtp = SmtpUrl::parse("smtps://pin:s3cret@mail.example").unwrap();
    for shown in [
        format!("{database:?} {database}"),
        format!("{redis:?} {redis}"),
        format!("{smtp:?} {smtp}"),
        format!("{:?}", "s3cret".parse::<Hidden>().unwrap()),
        format!("{:?}", JwtSecrets::parse(&"s3cret".repeat(8)).unwrap()),
    ] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    assert_eq!(database.to_string(), "mysql://pin:***@db.example:3306/pintalk?***");
    assert!(database.expose().contains("s3cret"));
}

#[test]
fn scheme_of_url_selects_the_store() {
    assert!(DatabaseUrl::parse("sqlite:///var/lib/pintalk/db.sqlite").unwrap().is_sqlite());
    assert!(!DatabaseUrl::parse("mysql://root@127.0.0.1:3306/pintalk").unwrap().is_sqlite());
    for bad in ["", "mysql://root@127.0.0.1:3306", "postgres://a/b", "sqlite:", "sqlite::memory:", "db.example"] {
        assert!(DatabaseUrl::parse(bad).is_err(), "{bad}");
    }
    let topology = |url: &str| RedisUrl::parse(url).map(|url| url.topology());
    assert_eq!(topology("redis://127.0.0.1:6379"), Ok(RedisTopology::Standalone));
    assert_eq!(topology("rediss-cluster://a:1?node=b:2"), Ok(RedisTopology::Cluster));
    assert_eq!(topology("redis-sentinel://a:1?sentinelServiceName=pintalk"), Ok(RedisTopology::Sentinel));
    for bad in ["", "127.0.0.1:6379", "http://a:1", "redis://", "redis-sentinel://a:1"] {
        assert!(topology(bad).is_err(), "{bad}");
    }
    for bad in ["", "mail.example", "https://mail.example", "smtp://"] {
        assert!(SmtpUrl::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn special_characters_in_path_are_encoded() {
    let url = DatabaseUrl::sqlite(Path::new("/srv/100% ours?/db.sqlite")).unwrap();
    assert_eq!(url.expose(), "sqlite:///srv/100%25%20ours%3F/db.sqlite");
}

/// Password in which each character would have a meaning in a URL.
const PASSWORD: &str = "p@:/?#[]%41&=+ \\\"'é;,!$";

fn args(flags: &[&str]) -> Result<ServeArgs, String> {
    ServeArgs::from_flags(flags).map_err(|error| error.to_string())
}

/// Returns the URL of the database that the flags select, or the error.
fn database(flags: &[&str]) -> Result<String, String> {
    let url = args(flags)?.store.database.url().map_err(|error| error.to_string())?;
    Ok(url.map(|url| url.expose().to_owned()).unwrap_or_default())
}

fn redis(flags: &[&str]) -> Result<String, String> {
    let url = args(flags)?.redis.url().map_err(|error| error.to_string())?;
    Ok(url.map(|url| url.expose().to_owned()).unwrap_or_default())
}

fn smtp(flags: &[&str]) -> Result<String, String> {
    let url = args(flags)?.smtp.url().map_err(|error| error.to_string())?;
    Ok(url.map(|url| url.expose().to_owned()).unwrap_or_default())
}

/// Creates a file with the certificate of an authority.
fn authority(folder: &Path) -> String {
    let file = folder.join("ca.pem");
    let made = std::process::Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority".split(' '),
        )
        .args(["-keyout", "/dev/null", "-out"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(made.status.success(), "openssl");
    file.to_str().unwrap().to_owned()
}

#[test]
fn database_in_parts_is_the_same_as_its_url() {
    let parts = ["--database-host", "db.example", "--database-user", "pin", "--database-name", "pintalk"];
    let with = |more: &[&'static str]| database(&[parts.as_slice(), more].concat());
    assert_eq!(with(&[]).unwrap(), "mysql://pin@db.example:3306/pintalk");
    let more = ["--database-port=3307", "--database-password=x", "--database-tls=required"];
    assert_eq!(with(&more).unwrap(), "mysql://pin:x@db.example:3307/pintalk?ssl-mode=REQUIRED");
    let url = ["--database-url", "mysql://pin@db.example/pintalk?charset=utf8mb4"];
    let completed = database(&[&url, more[1..].as_ref()].concat()).unwrap();
    assert_eq!(completed, "mysql://pin:x@db.example/pintalk?charset=utf8mb4&ssl-mode=REQUIRED");
}

#[test]
fn password_may_contain_any_character() {
    use sea_orm::sqlx::mysql::MySqlConnectOptions;
    let parts = ["--database-host", "[::1]", "--database-user", PASSWORD, "--database-name", "a b%20c"];
    let url = database(&[parts.as_slice(), &["--database-password", PASSWORD]].concat()).unwrap();
    let options: MySqlConnectOptions = url.parse().unwrap();
    let url = url::Url::parse(&url).unwrap();
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    assert_eq!((decoded(url.username()), decoded(url.password().unwrap())), (PASSWORD.into(), PASSWORD.into()));
    assert_eq!((options.get_username(), options.get_database()), (PASSWORD, Some("a b%20c")));

    let sentinel = ["--redis-host=a,b", "--redis-mode=sentinel", "--redis-sentinel-master", "m&n"];
    let secrets = ["--redis-user", "u@", "--redis-password", PASSWORD, "--redis-sentinel-password", PASSWORD];
    let config = client_config(&redis(&[sentinel.as_slice(), &secrets].concat()).unwrap()).unwrap();
    assert_eq!((config.username.as_deref(), config.password.as_deref()), (Some("u@"), Some(PASSWORD)));
    let ServerConfig::Sentinel { hosts, service_name, password, .. } = config.server else { panic!("no Sentinels") };
    assert_eq!((service_name.as_str(), password.as_deref(), hosts.len()), ("m&n", Some(PASSWORD), 2));
    assert!(hosts.iter().all(|host| host.port == 26379));

    let url = smtp(&["--smtp-url", "smtps://pin%40x@mail.example", "--smtp-password", PASSWORD]).unwrap();
    assert_eq!(decoded(url::Url::parse(&url).unwrap().password().unwrap()), PASSWORD);
}

#[test]
fn redis_in_parts_is_the_same_as_its_url() {
    for (flags, url) in [
        (vec!["--redis-host", "a"], "redis://a:6379/"),
        (vec!["--redis-host", "a:7000", "--redis-db", "2", "--redis-tls", "on"], "rediss://a:7000/2"),
        (
            vec!["--redis-host", "a,b:7001", "--redis-port", "7000", "--redis-mode", "cluster"],
            "redis-cluster://a:7000/?node=b:7001",
        ),
        (
            vec!["--redis-url", "redis-cluster://a:1?node=b:2", "--redis-tls", "on", "--redis-password", "x"],
            "rediss-cluster://:x@a:1?node=b:2",
        ),
        (vec!["--redis-url", "rediss://a:1", "--redis-tls", "on"], "rediss://a:1"),
    ] {
        assert_eq!(redis(&flags).unwrap(), url, "{flags:?}");
    }
}

#[test]
fn authority_selects_tls_with_a_check_of_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let encoded_ca: String = url::form_urlencoded::byte_serialize(ca.as_bytes()).collect();
    let mysql = ["--database-url", "mysql://pin@db.example/pintalk", "--database-ca", &ca];
    let url = format!("mysql://pin@db.example/pintalk?ssl-mode=VERIFY_IDENTITY&ssl-ca={encoded_ca}");
    assert_eq!(database(&mysql).unwrap(), url);
    assert_eq!(database(&["--database-url", &url]).unwrap(), url);
    let verify_ca = database(&[mysql.as_slice(), &["--database-tls", "verify-ca"]].concat()).unwrap();
    assert!(verify_ca.contains("ssl-mode=VERIFY_CA&"), "{verify_ca}");
    assert_eq!(
        redis(&["--redis-host", "a", "--redis-ca", &ca]).unwrap(),
        format!("rediss://a:6379/?tls-ca={encoded_ca}")
    );
    for flags in [
        ["--database-url", "mysql://p@d/n?ssl-mode=REQUIRED", "--database-ca", &ca],
        ["--database-url", "sqlite:///x", "--database-ca", &ca],
        ["--database-url", "mysql://p@d/n", "--database-ca", "/missing.pem"],
        ["--database-url", "mysql://p@d/n?ssl-ca=/missing.pem", "--database-tls", "verify-ca"],
        ["--database-url", "mysql://p@d/n?ssl-mode=VERIFY", "--drain", "1s"],
    ] {
        assert!(database(&flags).unwrap_err().starts_with("--database-"), "{flags:?}");
    }
    std::fs::write(dir.path().join("empty.pem"), "no certificate").unwrap();
    let empty = dir.path().join("empty.pem");
    let error = redis(&["--redis-host", "a", "--redis-ca", empty.to_str().unwrap()]).unwrap_err();
    assert!(error.contains("--redis-ca: ") && error.contains("empty.pem: contains no certificate"), "{error}");
}

#[test]
fn contradiction_names_both_options_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "redis://:s3cret@a:1\n").unwrap();
    let file = file.to_str().unwrap();
    let url = "mysql://pin:s3cret@db.example/pintalk";
    for (flags, named) in [
        (vec!["--redis-url", "redis://a:1", "--redis-url-file", file], vec!["--redis-url", "--redis-url-file"]),
        (vec!["--redis-url-file", file, "--redis-host", "a"], vec!["--redis-url-file", "--redis-host"]),
        (vec!["--redis-url-file", file, "--redis-password", "s3cret"], vec!["--redis-password", "--redis-url"]),
        (
            vec!["--redis-host", "a", "--redis-password", "s3cret", "--redis-password-file", file],
            vec!["--redis-password", "--redis-password-file"],
        ),
        (vec!["--redis-url", "redis://a:1", "--redis-mode", "cluster"], vec!["--redis-url", "--redis-mode"]),
        (vec!["--redis-password", "s3cret"], vec!["--redis-url", "--redis-host"]),
        (vec!["--redis-port", "1"], vec!["--redis-host"]),
        (vec!["--redis-host", "a,b"], vec!["--redis-host", "--redis-mode"]),
        (vec!["--redis-host", "a", "--redis-mode", "sentinel"], vec!["--redis-sentinel-master"]),
        (vec!["--redis-host", "a", "--redis-sentinel-master", "m"], vec!["--redis-sentinel-master", "--redis-mode"]),
        (vec!["--redis-host", "a", "--redis-mode", "cluster", "--redis-db", "1"], vec!["--redis-db"]),
        (vec!["--redis-host", "a", "--redis-sentinel-password", "s3cret"], vec!["--redis-sentinel-password"]),
        (vec!["--redis-url", "rediss://a:1", "--redis-tls", "off"], vec!["--redis-url", "--redis-tls"]),
        (vec!["--database-url", url, "--database-host", "a"], vec!["--database-url", "--database-host"]),
        (vec!["--database-url", url, "--database-name", "s"], vec!["--database-url", "--database-name"]),
        (vec!["--database-url", url, "--database-password", "s3cret"], vec!["--database-url", "--database-password"]),
        (vec!["--database-url", "sqlite:///x", "--database-password", "s3cret"], vec!["--database-password"]),
        (vec!["--database-host", "a"], vec!["--database-user", "--database-name"]),
        (
            vec!["--database-url", "mysql://p@d/n?ssl-mode=REQUIRED", "--database-tls", "off"],
            vec!["--database-url", "--database-tls"],
        ),
        (vec!["--smtp-url", "smtp://mail.example", "--smtp-password", "s3cret"], vec!["--smtp-url", "--smtp-password"]),
        (
            vec!["--smtp-url", "smtp://a:s3cret@mail.example", "--smtp-password", "s3cret"],
            vec!["--smtp-url", "--smtp-password"],
        ),
        (vec!["--smtp-password", "s3cret"], vec!["--smtp-url"]),
        (vec!["--jwt-secret", "s3cret", "--jwt-secret-file", file], vec!["--jwt-secret", "--jwt-secret-file"]),
    ] {
        let found = database(&flags).and_then(|_| redis(&flags)).and_then(|_| smtp(&flags));
        let error = found.unwrap_err();
        let words: Vec<&str> = error.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
        assert!(named.iter().all(|name| words.contains(name)), "{flags:?}: {error}");
        assert!(!error.contains("s3cret"), "{flags:?}: {error}");
    }
}
