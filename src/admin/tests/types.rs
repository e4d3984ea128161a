//! Every type of Apple's table through the API: written with all that it names, and refused where what it
//! names is missing or something else.

use serde_json::{Value, json};

use super::{House, Reply};
use crate::schema::declarations::{Wants, check, example, types, whole_example};

/// A ProfileURL on another host needs force; nothing else here does.
async fn put(house: &House, body: &Value) -> Reply {
    let path = format!("/api/v1/declarations/{}?force=1&nonotify=1", body["Identifier"].as_str().unwrap());
    house.put(&path, body).await
}

#[tokio::test]
async fn every_type_is_written_with_what_it_names_and_refused_without() {
    let house = House::new().await;
    let stranger = json!({
        "Type": "com.apple.management.properties",
        "Identifier": "org.example.stranger",
        "Payload": {"a": 1},
    });
    put(&house, &stranger).await.ok();
    let mut named = 0;
    for name in types() {
        let mut body = whole_example(name).unwrap();
        // Assets are named by what they are; whoever names them is called otherwise.
        body["Identifier"] = format!("{name}.of-all").split_off("com.apple.".len()).into();
        for reference in check(&body, true).unwrap().references {
            named += 1;
            let at = reference.pointer.as_str();
            if house.ask("GET", &format!("/api/v1/declarations/{}", reference.identifier)).send().await.status
                == 404
            {
                let refused = put(&house, &body).await;
                refused.refused(400, "invalid");
                assert_eq!(refused.pointer(), at, "{name}");
            }
            let mut wrong = body.clone();
            *wrong.pointer_mut(at).unwrap() = json!("org.example.stranger");
            let refused = put(&house, &wrong).await;
            refused.refused(400, "invalid");
            assert_eq!(refused.pointer(), at, "{name}: {}", refused.text);
            let wanted = match &reference.wants {
                Wants::Configuration => "com.apple.configuration.management.test",
                Wants::Asset(types) => types[0].as_str(),
            };
            let mut asset = example(wanted).unwrap();
            asset["Identifier"] = reference.identifier.into();
            assert!(put(&house, &asset).await.status.is_success());
        }
        let written = put(&house, &body).await;
        assert_eq!(written.status, 201, "{name}: {}", written.text);
        assert_eq!(written.json["Payload"], body["Payload"], "{name}");
    }
    assert!(named > 30, "{named} references were tried");
}
