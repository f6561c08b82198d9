//! Scenario files put together on their trees: merging for `extends`, and values in place of `"$param"`.

use indexmap::IndexMap;
use phantom_placed::Problem;
use phantom_placed::tree::{Node, Value};

/// Keys whose table is one choice of several: a child's replaces the base's whole, since merging two choices makes none.
const CHOICES: &[&str] = &["action", "count", "do", "match", "model", "node", "start"];

/// What one choice among the kinds of an invariant or claim is: a child that names another kind replaces the base's.
const KINDS: &[&str] = &["always", "never", "eventually", "sometimes"];

/// Lays `child` over `base`: tables merge by key, arrays of named tables by `name`, everything else is replaced.
pub fn merge(base: Node, child: Node) -> Node {
    let at = child.at;
    let value = match (base.value, child.value) {
        (Value::Table(mut base), Value::Table(child)) => {
            if KINDS.iter().any(|kind| child.contains_key(*kind)) {
                base.retain(|key, _| !KINDS.contains(&key.as_str()));
            }
            for (key, (key_at, node)) in child {
                let merged = match base.shift_remove_full(&key) {
                    Some((index, _, (_, old))) if !CHOICES.contains(&key.as_str()) => {
                        base.shift_insert(index, key, (key_at, merge(old, node)));
                        continue;
                    }
                    _ => node,
                };
                base.insert(key, (key_at, merged));
            }
            Value::Table(base)
        }
        (Value::List(base), Value::List(child)) if all_named(&base) && all_named(&child) => {
            let mut merged = base;
            for node in child {
                match merged.iter().position(|old| name_of(old) == name_of(&node)) {
                    Some(index) => {
                        let old = merged[index].clone();
                        merged[index] = merge(old, node);
                    }
                    None => merged.push(node),
                }
            }
            Value::List(merged)
        }
        (_, child) => child,
    };
    Node { at, value }
}

fn name_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Table(table) => match table.get("name") {
            Some((
                _,
                Node {
                    value: Value::Text(name),
                    ..
                },
            )) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

fn all_named(nodes: &[Node]) -> bool {
    !nodes.is_empty() && nodes.iter().all(|node| name_of(node).is_some())
}

/// Replaces every text `"$name"` by the value that `values` has for `name`; the place stays that of the text.
///
/// # Errors
/// A name that no value has, with those that have one.
pub fn substitute(node: &mut Node, values: &IndexMap<String, Value>) -> Result<(), Problem> {
    match &mut node.value {
        Value::Text(text) => {
            if let Some(name) = text.strip_prefix('$') {
                let value = values.get(name).ok_or_else(|| {
                    Problem::unknown(node.at, "parameter", name, values.keys().map(String::as_str))
                })?;
                node.value = value.clone();
            }
        }
        Value::List(items) => {
            for item in items {
                substitute(item, values)?;
            }
        }
        Value::Table(table) => {
            for (key, (_, value)) in table {
                // A `$` in the parameters themselves would make their meaning depend on their order.
                if key != "params" {
                    substitute(value, values)?;
                }
            }
        }
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use phantom_placed::tree::parse;

    use super::*;

    fn tree(text: &str) -> Node {
        parse(0, text).expect("toml")
    }

    fn plain(node: &Node) -> String {
        match &node.value {
            Value::Text(text) => format!("{text:?}"),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::List(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
            Value::Table(table) => {
                let all: Vec<_> = table
                    .iter()
                    .map(|(key, (_, node))| format!("{key}={}", plain(node)))
                    .collect();
                format!("{{{}}}", all.join(", "))
            }
        }
    }

    #[test]
    fn tables_merge_by_key_and_named_arrays_by_name() {
        let base = tree("a.x = 1\na.y = 2\n[[r]]\nname='p'\nv=1\n[[r]]\nname='q'\nv=2\n");
        let child = tree("a.y = 3\n[[r]]\nname='q'\nv=9\n[[r]]\nname='s'\nv=4\n");
        assert_eq!(
            plain(&merge(base, child)),
            r#"{a={x=1, y=3}, r=[{name="p", v=1}, {name="q", v=9}, {name="s", v=4}]}"#
        );
    }

    #[test]
    fn arrays_without_names_and_choices_are_replaced_whole() {
        let merged = merge(
            tree("l=[1,2]\naction.drop = {}"),
            tree("l=[3]\naction.reset = {}"),
        );
        assert_eq!(plain(&merged), "{l=[3], action={reset={}}}");
    }

    #[test]
    fn a_child_that_names_another_kind_of_check_replaces_the_bases() {
        let merged = merge(
            tree("[[i]]\nname='n'\nalways='x'"),
            tree("[[i]]\nname='n'\neventually='y'\nwithin='1 s'"),
        );
        assert_eq!(
            plain(&merged),
            r#"{i=[{name="n", eventually="y", within="1 s"}]}"#
        );
    }

    #[test]
    fn parameters_replace_whole_values_and_unknown_ones_are_refused() {
        let values = IndexMap::from([("rate".to_owned(), Value::Text("16 kbit/s".to_owned()))]);
        let mut node = tree("a = '$rate'\nb = ['$rate']");
        substitute(&mut node, &values).expect("known");
        assert_eq!(plain(&node), r#"{a="16 kbit/s", b=["16 kbit/s"]}"#);
        let problem = substitute(&mut tree("a = '$rat'"), &values).expect_err("unknown");
        assert_eq!(problem.message, "unknown parameter 'rat'; did you mean 'rate'?");
    }
}
