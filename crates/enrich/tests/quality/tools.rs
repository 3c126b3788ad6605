//! Tools: declarations, calls and results.

use chat_format::Role;
use enrich::Household;
use serde_json::Value;

use crate::{SEED, fixtures};

#[test]
fn tools_are_declared_and_called_by_their_schemas() {
    let house = Household::load(fixtures().join("household.yaml")).unwrap();
    let (mut called, mut results, mut uncalled) = (0, 0, 0);
    for row in &SEED.rows {
        let calls: Vec<_> = row.messages.iter().flat_map(|message| &message.tool_calls).collect();
        if !row.tools.is_empty() {
            assert_eq!(row.tools, house.tools_of(row.meta["agent"].as_str().unwrap()));
            uncalled += usize::from(calls.is_empty());
        }
        for call in calls {
            called += 1;
            let function = row.tools.iter().map(|tool| &tool["function"]);
            let function = function
                .into_iter()
                .find(|function| function["name"] == call.name.as_str())
                .unwrap();
            assert!(!function["description"].as_str().unwrap().is_empty());
            fits(&function["parameters"], &call.arguments);
        }
        if let Some(at) = row.messages.iter().position(|message| message.role == Role::Tool) {
            results += 1;
            let id = &row.messages[at - 1].tool_calls[0].id;
            assert!(id.is_some() && &row.messages[at].tool_call_id == id);
            assert!(!row.messages[at + 1].content.is_empty());
        }
    }
    println!("{called} calls, {results} with a result, {uncalled} rows with tools and no call");
    assert!(called > 100 && results > 30 && uncalled > 50);
    let suite = eval::Suite::load(fixtures().join("suites/household.json")).unwrap();
    for case in suite.cases {
        let tools = case.category.as_str() == "tool_calling";
        let own = if tools { house.tools_of(case.agent.as_str()) } else { Vec::new() };
        assert_eq!(case.tools, own, "{}", case.id);
    }
}

/// Checks an object against the part of JSON Schema that declarations use.
fn fits(schema: &Value, arguments: &Value) {
    let given = arguments.as_object().unwrap();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(schema["type"], "object");
    for name in schema["required"].as_array().unwrap() {
        assert!(given.contains_key(name.as_str().unwrap()), "{name} is missing in {arguments}");
    }
    for (name, value) in given {
        let property = &properties[name];
        let right = match property["type"].as_str().unwrap() {
            "integer" => value.is_i64() || value.is_u64(),
            "string" => value.is_string(),
            other => panic!("unexpected type {other}"),
        };
        assert!(right, "{name}: {value} is no {}", property["type"]);
        if let Some(values) = property["enum"].as_array() {
            assert!(values.contains(value), "{value} is none of {values:?}");
        }
    }
}
