//! Offers from files: JSON or TOML, each mistake named by its field.

use agent::capability::Offer;
use serde_json::json;

#[test]
fn the_same_offer_in_both_formats() {
    let of_json = Offer::parse(
        r##"{"title": "Academic citations", "text": "学术引用", "tags": ["#papers"], "input": {"citation": "text"},
            "price": null, "limits": {"per_minute": 60}, "version": "2.1"}"##,
    );
    let of_toml = Offer::parse(
        "title = \"Academic citations\"\ntext = \"学术引用\"\ntags = [\"#papers\"]\nversion = \"2.1\"\n\
         [input]\ncitation = \"text\"\n[limits]\nper_minute = 60\n",
    );
    let offer = of_json.unwrap();
    assert_eq!(offer, of_toml.unwrap());
    let offer = offer.checked().unwrap();
    assert_eq!((offer.tags, offer.limits), (vec!["papers".to_owned()], Some(json!({"per_minute": 60}))));
}

#[test]
fn mistakes_name_their_field() {
    let refused = |text: &str| Offer::parse(text).and_then(Offer::checked).unwrap_err().to_string();
    assert!(refused("{\"titel\": \"x\"}").contains("\"titel\" is unknown; the fields are title"));
    assert!(refused("{\"title\": 5}").contains("\"title\": a text expected, not a number"));
    assert!(refused("tags = \"papers\"").contains("\"tags\": a list of texts expected, not a text"));
    assert!(refused("tags = [\"Upper case\"]").contains("invalid tag"));
    assert!(refused("{\"title\"").contains("neither JSON nor TOML"));
    assert!(refused("title = ").contains("neither JSON nor TOML"));
    assert!(refused("{}").contains("a title, a text or tags required"));
    let long = json!({ "title": "x".repeat(4096) }).to_string();
    assert!(refused(&long).contains("title too long, at most 160 bytes"));
    let deep = json!({ "title": "x", "input": [[[[[[[[[1]]]]]]]]] }).to_string();
    assert!(refused(&deep).contains("input nests deeper"));
    // Each bound is kept, and all together are too long.
    let all = json!({"text": "x".repeat(4096), "input": "x".repeat(2000), "output": "x".repeat(2000), "title": "x"});
    assert!(refused(&all.to_string()).contains("record too long"));
}

#[test]
fn flags_win_over_the_file() {
    let file = Offer { title: "old".into(), text: "text".into(), ..Offer::default() };
    let flags = Offer { title: "new".into(), ..Offer::default() };
    assert_eq!(flags.or(file), Offer { title: "new".into(), text: "text".into(), ..Offer::default() });
}
