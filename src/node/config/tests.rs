use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::outbound::media::MediaLocation;

const MYSQL: &str = "mysql://pin:s3cret@db.example/pintalk";
const REDIS: &str = "redis://:s3cret@redis.example:6379";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config_in(dir: &Path, flags: &[&str]) -> Result<Config, ConfigError> {
    let dir = dir.join("data");
    let flags = [&["--data-dir", dir.to_str().unwrap()], flags].concat();
    Config::from_args(ServeArgs::from_flags(flags).unwrap(), &Rng::from_seed(1))
}

fn config(flags: &[&str]) -> Result<Config, ConfigError> {
    config_in(tempfile::tempdir().unwrap().path(), flags)
}

#[test]
fn node_without_flags_is_embedded() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_in(dir.path(), &[]).unwrap();
    let data_dir = dir.path().join("data");
    let database = DatabaseUrl::sqlite(&data_dir.join("pintalk.sqlite")).unwrap();
    assert_eq!(config.mode, Mode::Embedded { database });
    assert!(config.auto_migrate);
    assert_eq!(config.public_url.as_str(), "http://127.0.0.1:8080");
    assert_eq!(config.media, MediaLocation::Folder(data_dir.join("media")));
    assert_eq!(config.duties.message_retention, Duration::from_secs(7 * 86_400));
    assert_eq!(config.duties.idle_close, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(config.key_grace, crate::accounts::DEFAULT_KEY_GRACE);
    assert_eq!(config.keep_alive.as_secs(), 80);
    assert_eq!((config.presence_grace.as_secs(), config.drain_delay.as_secs(), config.drain.as_secs()), (1, 5, 20));
    assert_eq!(config.wire_offset.to_string(), "+09:00");
    assert_eq!((config.limits.messages_per_second, config.limits.message_burst), (Cap::at(20), Cap::at(100)));
    assert_eq!((config.limits.sockets_per_address, config.limits.sockets_per_room), (Cap::at(1000), Cap::at(64)));
    assert_eq!(config.limits.frame_bytes, 32 * 1024);
    let limits = &config.limits;
    assert_eq!((limits.socket_bytes_per_second, limits.socket_burst_bytes), (Cap::at(16_384), Cap::at(262_144)));
    assert_eq!((limits.address_bytes_per_second, limits.host_mib_per_day), (Cap::at(1_048_576), Cap::at(500)));
    assert_eq!((limits.handshakes_per_minute, limits.rooms_per_minute), (Cap::at(600), Cap::at(60)));
    assert_eq!((limits.logins_per_address, limits.logins_per_account), (Cap::at(20), Cap::at(10)));
    assert_eq!((limits.login_failures_per_hour, limits.lookups_per_minute), (Cap::at(100), Cap::at(60)));
    assert_eq!(limits.mails_per_hour, Cap::at(5));
    assert_eq!((limits.mails_per_mailbox, limits.mails_per_host), (Cap::at(10), Cap::at(100)));
    assert_eq!((limits.mails_per_installation, config.sign_up), (Cap::at(1000), SignUp::Open));
    assert_eq!(config.trusted_proxies, None);
}

#[test]
fn token_key_of_single_node_is_created_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = config_in(dir.path(), &[]).unwrap();
    let flags = ServeArgs::from_flags(["--data-dir", dir.path().join("data").to_str().unwrap()]).unwrap();
    let second = Config::from_args(flags, &Rng::from_seed(2)).unwrap();
    assert_eq!(first.jwt_secrets, second.jwt_secrets);
    let path = dir.path().join("data/jwt-secret");
    assert_eq!(first.jwt_secrets.signing(), std::fs::read(&path).unwrap());
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn redis_and_mysql_select_a_cluster() {
    let config = config(&["--database-url", MYSQL, "--redis-url", REDIS, "--jwt-secret", SECRET]).unwrap();
    assert!(matches!(config.mode, Mode::Cluster { .. }));
    assert!(!config.auto_migrate);
    assert_eq!(config.jwt_secrets.signing(), SECRET.as_bytes());
    let shown = format!("{config:?}");
    assert!(!shown.contains("s3cret") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn database_url_alone_selects_a_single_node() {
    let config = config(&["--database-url", MYSQL, "--auto-migrate"]).unwrap();
    assert!(matches!(config.mode, Mode::SingleOnDatabase { .. }));
    assert!(config.auto_migrate);
}

#[test]
fn contradictory_options_name_the_flag() {
    let cluster = ["--database-url", MYSQL, "--redis-url", REDIS];
    let with = |more: &[&'static str]| [cluster.as_slice(), more].concat();
    for (flag, flags) in [
        ("redis-url", vec!["--redis-url", REDIS]),
        ("redis-url", vec!["--redis-url", REDIS, "--database-url", "sqlite:///tmp/x.sqlite"]),
        ("redis-url", vec!["--redis-url", "http://redis.example", "--database-url", MYSQL]),
        ("database-url", vec!["--database-url", "postgres://db.example/pintalk"]),
        ("database-url", vec!["--database-url", "mysql://db.example"]),
        ("jwt-secret", with(&[])),
        ("jwt-secret", with(&["--jwt-secret", "too short s3cret"])),
        ("jwt-secret", vec!["--jwt-secret", "0123456789abcdef0123456789abcdef,short"]),
        ("smtp-url", vec!["--smtp-url", "mail.example"]),
        ("media-url", vec!["--media-url", "s3://key:s3cret@bucket"]),
        ("media-url", vec!["--media-url", "file://relative/images"]),
        ("metrics-listen", vec!["--metrics-listen", "127.0.0.1:8080"]),
        ("redis-wait", vec!["--redis-wait", "1"]),
        ("data-dir", vec!["--data-dir", "/proc/nowhere"]),
    ] {
        let error = match ServeArgs::from_flags(&flags) {
            Ok(args) if flag == "data-dir" => Config::from_args(args, &Rng::from_seed(1)).unwrap_err(),
            _ => config(&flags).unwrap_err(),
        };
        assert_eq!(error.flag, flag, "{flags:?}: {error}");
        assert!(error.to_string().starts_with(&format!("--{flag}: ")) && !error.to_string().contains("s3cret"));
    }
}

#[test]
fn malformed_value_names_the_flag() {
    for (flag, value) in [
        ("listen", "8080"),
        ("metrics-listen", "localhost"),
        ("auto-migrate", "perhaps"),
        ("public-url", "chat.example"),
        ("admin-origins", "https://a.example,b.example"),
        ("cookie-domain", "a b"),
        ("wire-offset", "Seoul"),
        ("message-retention", "7"),
        ("message-retention", "off"),
        ("idle-close", "never"),
        ("presence-grace", "1"),
        ("redis-wait", "-1"),
        ("limit-queue", "0"),
        ("limit-queue-bytes", "1"),
        ("limit-log-bytes", "1000000000"),
        ("drain-delay", "soon"),
        ("drain", "-5s"),
        ("trusted-proxies", "10.0.0.0/40"),
        ("log-format", "xml"),
        ("limits", "some"),
        ("limit-messages-per-second", "0"),
        ("limit-message-burst", "many"),
        ("limit-frame-bytes", "12"),
        ("limit-sockets-per-address", "-3"),
        ("limit-sockets-per-room", "0"),
        ("limit-handshakes-per-minute", "1.5"),
        ("limit-joins-waiting", "off"),
        ("limit-rooms-per-minute", ""),
        ("limit-logins-per-address", "x"),
        ("limit-logins-per-account", "x"),
        ("limit-login-failures-per-hour", "0"),
        ("limit-lookups-per-minute", "x"),
        ("limit-mails-per-hour", "x"),
        ("limit-mails-per-mailbox", "0"),
        ("limit-mails-per-host", "-1"),
        ("limit-mails-per-installation", "x"),
        ("sign-up", "on"),
    ] {
        let error = ServeArgs::from_flags([format!("--{flag}={value}")]).unwrap_err();
        assert!(error.to_string().contains(&format!("--{flag}")), "{error}");
    }
}

#[test]
fn every_option_has_its_environment_variable() {
    let command = <ServeArgs as clap::Args>::augment_args(clap::Command::new("serve"));
    for arg in command.get_arguments() {
        let flag = arg.get_long().unwrap();
        let variable = format!("PINTALK_{}", flag.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(variable.as_str()), "{flag}");
        assert_eq!(flag.replace('-', "_"), arg.get_id().as_str());
    }
}

#[test]
fn limits_can_be_off_one_by_one_or_all_except_node_limits() {
    let one = config(&["--limit-sockets-per-room=off", "--limit-message-burst=7"]).unwrap().limits;
    assert_eq!((one.sockets_per_room, one.message_burst, one.mails_per_hour), (Cap::OFF, Cap::at(7), Cap::at(5)));
    let off = config(&["--limits", "off", "--limit-frame-bytes", "4096"]).unwrap().limits;
    assert_eq!(off, LimitConfig::off(4096, 4096));
    assert!(Cap::at(2).is_reached_by(2) && !Cap::at(2).is_reached_by(1) && !Cap::OFF.is_reached_by(u64::MAX));
}

#[test]
fn default_public_url_is_reachable_by_a_browser() {
    let url = |listen: &str| config(&["--listen", listen]).unwrap().public_url.as_str().to_owned();
    assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1");
    assert_eq!(url("[::]:8443"), "http://[::1]:8443");
    assert_eq!(url("192.0.2.1:8080"), "http://192.0.2.1:8080");
}

#[test]
fn wire_offset_can_be_negative() {
    assert_eq!(config(&["--wire-offset", "-03:00"]).unwrap().wire_offset.to_string(), "-03:00");
}

/// Returns the rows of the options table under one help heading, in the order of `pintalk serve --help`.
fn options_table(heading: Option<&str>) -> String {
    use clap::Args as _;
    use std::fmt::Write as _;
    let command = ServeArgs::augment_args(clap::Command::new("serve"));
    let mut table = String::from("| option | value | default | description |\n|---|---|---|---|\n");
    for option in command.get_arguments().filter(|option| option.get_help_heading() == heading) {
        let name = option.get_long().unwrap();
        let variable = format!("PINTALK_{}", name.to_uppercase().replace('-', "_"));
        assert_eq!(option.get_env().unwrap(), variable.as_str(), "{name}");
        let mut values: Vec<String> =
            option.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        if values.is_empty() {
            values.extend(option.get_value_names().unwrap().iter().map(ToString::to_string));
        }
        let help = option.get_help().unwrap().to_string();
        let (help, default) = help.split_once(" [default: ").unwrap_or((&help, ""));
        let described = default.trim_end_matches(']').replace('<', "\\<");
        let default = option.get_default_values().first();
        let default = default.map_or(described, |value| format!("`{}`", value.to_str().unwrap()));
        assert!(!help.contains(['|', '<']), "{name}: {help}");
        writeln!(table, "| `{name}` | `{}` | {default} | {help}. |", values.join("`, `")).unwrap();
    }
    table
}

#[test]
fn options_tables_match_the_command_line_and_list_each_option_once() {
    use clap::Args as _;
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/node/config/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    for heading in [None, Some("Connections in parts"), Some("Secrets in files"), Some("Limits")] {
        let table = options_table(heading);
        assert!(table.lines().count() > 7, "{table}");
        assert!(readme.contains(&table), "src/node/config/README.md must have these rows:\n{table}");
    }
    for option in ServeArgs::augment_args(clap::Command::new("serve")).get_arguments() {
        let start = format!("| `{}` |", option.get_long().unwrap());
        assert_eq!(readme.lines().filter(|line| line.starts_with(&start)).count(), 1, "{start}");
    }
}
