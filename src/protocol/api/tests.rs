use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::*;
use crate::domain::{ChatroomId, Host, HostConfig, HostId, HostUuid, Message, Side};

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn host() -> Host {
    Host {
        id: HostId(7),
        email: "dev@shop.example".into(),
        uuid: HostUuid::from_random([1; 16]),
        profile_name: "Shop".into(),
        description: String::new(),
        access_key: "a".repeat(22),
        secret_key: "5".repeat(64),
        service_name: "Shop".into(),
        service_expl: "Shoes".into(),
        service_domain: Some("shop.example".into()),
        profile_image: None,
        is_deleted: false,
        deleted_at: None,
        created_at: at("2023-03-21T03:58:57.178Z"),
        updated_at: at("2023-03-21T03:58:57Z"),
        config: HostConfig { use_online_status: true, email_notifications: true },
    }
}

fn read<T>(read: fn(&Map<String, Value>) -> Result<T, FieldErrors>, body: Value) -> Result<T, FieldErrors> {
    read(body.as_object().unwrap())
}

#[test]
fn user_body_has_every_field_in_camel_case() {
    let body = serde_json::to_value(LoggedIn { user: User::new(&host(), ""), access_token: "t" }).unwrap();
    let mut names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names.join(" "),
        "accessKey accessToken createdAt deletedAt description email id isDeleted profileImage profileName secretKey \
         serviceDomain serviceExpl serviceName updatedAt uuid"
    );
    assert_eq!(body["createdAt"], "2023-03-21T03:58:57.178Z");
    assert_eq!(body["updatedAt"], "2023-03-21T03:58:57.000Z");
    assert_eq!(body["deletedAt"], Value::Null);
}

#[test]
fn client_body_contains_no_key_of_the_host() {
    let body = serde_json::to_string(&Client::new(&host(), "")).unwrap();
    assert!(body.contains(r#""configs":{"useOnlineStatus":true}"#));
    assert!(!body.contains("ecret") && !body.contains("ccess") && !body.contains(r#""id""#));
}

#[test]
fn refreshed_token_has_three_field_names() {
    assert_eq!(
        serde_json::to_value(Refreshed::new("t")).unwrap(),
        json!({"accessToken": "t", "access_token": "t", "access": "t"})
    );
}

#[test]
fn message_has_is_host_in_both_spellings_and_its_seq_as_id() {
    let message = Message {
        chatroom: ChatroomId(3),
        seq: 9,
        side: Side::Host,
        text: "hi".into(),
        datetime: "2023-03-23T08:15:77".parse().unwrap(),
        id: "m-1".parse().unwrap(),
        accepted_at: at("2023-03-22T23:15:07.123Z"),
    };
    assert_eq!(
        serde_json::to_value(ChatMessage::from(&message)).unwrap(),
        json!({"id": 9, "seq": 9, "chatroom": 3, "message": "hi", "isHost": true, "is_host": true,
               "datetime": "2023-03-23T08:15:77", "messageId": "m-1", "acceptedAt": "2023-03-22T23:15:07.123Z"})
    );
}

#[test]
fn bodies_are_read_in_both_spellings_and_unknown_fields_are_ignored() {
    for body in [json!({"useOnlineStatus": false, "else": [1]}), json!({"use_online_status": false})] {
        assert_eq!(
            read(ConfigsPatch::read, body),
            Ok(ConfigsPatch { use_online_status: Some(false), email_notifications: None })
        );
    }
    assert_eq!(read(ChatroomPatch::read, json!({"is_fixed": true})), Ok(ChatroomPatch::Pin(true)));
    assert_eq!(read(ChatroomPatch::read, json!({"isFixed": false})), Ok(ChatroomPatch::Pin(false)));
    assert_eq!(read(ChatroomPatch::read, json!({"isClosed": true})), Ok(ChatroomPatch::Close));
    assert_eq!(read(ChatroomPatch::read, json!({"is_closed": true, "is_fixed": true})), Ok(ChatroomPatch::Close));
}

#[test]
fn null_counts_as_absent_unless_the_field_can_be_null() {
    let none = ConfigsPatch { use_online_status: None, email_notifications: None };
    assert_eq!(read(ConfigsPatch::read, json!({"use_online_status": null, "emailNotifications": null})), Ok(none));
    // If only one spelling has a non-null value, that value is used. If both have one, the camelCase value is used.
    let off = ConfigsPatch { use_online_status: Some(false), ..none };
    for body in [
        json!({"use_online_status": null, "useOnlineStatus": false}),
        json!({"useOnlineStatus": null, "use_online_status": false}),
        json!({"useOnlineStatus": false, "use_online_status": true}),
    ] {
        assert_eq!(read(ConfigsPatch::read, body), Ok(off));
    }
    assert_eq!(read(ChatroomPatch::read, json!({"isFixed": null, "is_closed": true})), Ok(ChatroomPatch::Close));
    assert_eq!(read(ChatroomPatch::read, json!({"isFixed": true, "isClosed": null})), Ok(ChatroomPatch::Pin(true)));
    assert_eq!(
        read(ChatroomPatch::read, json!({"isFixed": null})).unwrap_err()["isFixed"],
        "isFixed or isClosed is required"
    );
    assert_eq!(read(KeysRequest::read, json!({"revokeOld": null})), Ok(KeysRequest { revoke_old: false }));
    let missing = read(LoginRequest::read, json!({"email": null, "password": null})).err().unwrap();
    assert_eq!((missing["email"].as_str(), missing["password"].as_str()), ("is required", "is required"));
    assert_eq!(
        read(ConfirmationRequest::read, json!({"verificationCode": null, "verification_code": 12345}))
            .ok()
            .unwrap()
            .code,
        "012345"
    );
    let domain = |body| read(ProfilePatch::read, body).unwrap().service_domain;
    assert_eq!(domain(json!({})), None);
    assert_eq!(domain(json!({"serviceDomain": null})), Some(None));
    assert_eq!(domain(json!({"service_domain": null})), Some(None));
    assert_eq!(
        domain(json!({"serviceDomain": null, "service_domain": "shop.example"})),
        Some(Some("shop.example".into()))
    );
    let blank = ProfilePatch::default();
    let nothing = json!({"profileName": null, "description": null, "service_name": null, "serviceExpl": null});
    assert_eq!(read(ProfilePatch::read, nothing), Ok(blank));
}

#[test]
fn every_invalid_field_is_reported() {
    let errors = read(LoginRequest::read, json!({"email": 5})).err().unwrap();
    assert_eq!(errors["email"], "must be a string");
    assert_eq!(errors["password"], "is required");
    let errors = read(ChatroomPatch::read, json!({"isFixed": "yes"})).unwrap_err();
    assert_eq!(errors["isFixed"], "must be true or false");
    assert!(read(ChatroomPatch::read, json!({})).is_err());
    assert!(read(ChatroomPatch::read, json!({"isClosed": false})).unwrap_err().contains_key("isClosed"));
}

/// Returns the names of all properties of a schema, and the names of its required properties.
fn documented<T: RequestBody>() -> (BTreeSet<String>, BTreeSet<String>) {
    let schema = serde_json::to_value(T::schema()).unwrap();
    let objects = schema["anyOf"].as_array().cloned().unwrap_or_else(|| vec![schema]);
    let (mut properties, mut required) = (BTreeSet::new(), BTreeSet::new());
    for object in &objects {
        properties.extend(object["properties"].as_object().unwrap().keys().cloned());
        // An empty body is reported as an invalid first alternative, so only the required fields of that alternative
        // count.
        if required.is_empty() {
            let names = object["required"].as_array().into_iter().flatten();
            required.extend(names.map(|name| name.as_str().unwrap().to_owned()));
        }
    }
    (properties, required)
}

fn check_that_what_is_documented_is_what_is_read<T: RequestBody>() {
    let (properties, required) = documented::<T>();
    let named = |body: Value| -> BTreeSet<String> {
        let errors = read(T::read, body).err().unwrap_or_default();
        errors.into_keys().map(str::to_owned).collect()
    };
    // No field accepts an empty list. Every field that is read therefore reports an error, in either spelling.
    let wrong = |name: &dyn Fn(&String) -> String| -> Value {
        properties.iter().map(|property| (name(property), json!([]))).collect::<Map<_, _>>().into()
    };
    let snake = |name: &String| -> String {
        let words = name.chars().map(|c| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.into() });
        words.collect()
    };
    assert_eq!(named(wrong(&String::clone)), properties);
    assert_eq!(named(wrong(&snake)), properties);
    assert_eq!(named(json!({})), required);
}

#[test]
fn documented_fields_are_the_fields_that_are_read() {
    check_that_what_is_documented_is_what_is_read::<LoginRequest>();
    check_that_what_is_documented_is_what_is_read::<EmailRequest>();
    check_that_what_is_documented_is_what_is_read::<ConfirmationRequest>();
    check_that_what_is_documented_is_what_is_read::<SignUpRequest>();
    check_that_what_is_documented_is_what_is_read::<PasswordChangeRequest>();
    check_that_what_is_documented_is_what_is_read::<LeaveRequest>();
    check_that_what_is_documented_is_what_is_read::<ProfilePatch>();
    check_that_what_is_documented_is_what_is_read::<ConfigsPatch>();
    check_that_what_is_documented_is_what_is_read::<KeysRequest>();
    check_that_what_is_documented_is_what_is_read::<ContactRequest>();
    check_that_what_is_documented_is_what_is_read::<WebhookRequest>();
    check_that_what_is_documented_is_what_is_read::<WebhookSecretRequest>();
    check_that_what_is_documented_is_what_is_read::<ChatroomPatch>();
}
