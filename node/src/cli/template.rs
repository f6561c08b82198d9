//! Settings written from the examples of `deploy/`, so that what an operator gets is what is documented and tested.

/// A settings file with values put in.
pub(crate) struct Template(Vec<String>);

impl Template {
    /// From an example.
    pub(crate) fn new(example: &str) -> Self {
        Self(example.lines().map(str::to_owned).collect())
    }

    /// Sets `name`, which the example has, as a value or as a default that is commented out, in one line or as a list of
    /// several. `value` is TOML.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let begins = |line: &String| line.trim_start_matches('#').starts_with(&format!("{name} = "));
        let Some(at) = self.0.iter().position(begins) else {
            unreachable!("the example has no {name}");
        };
        let lines = if self.0[at].ends_with('[') {
            self.0[at..]
                .iter()
                .position(|line| line == "]")
                .map_or(1, |end| end + 1)
        } else {
            1
        };
        self.0.splice(at..at + lines, [format!("{name} = {value}")]);
    }

    /// Sets `name` if there is a value.
    pub(crate) fn set_some(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.set(name, &value);
        }
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        self.0.join("\n") + "\n"
    }
}

/// A text as TOML writes it.
pub(crate) fn quoted(text: impl ToString) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// A list of texts as TOML writes it, one per line if it is long.
pub(crate) fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item.to_string())).collect();
    let line = format!("[{}]", items.join(", "));
    if line.len() <= 100 {
        return line;
    }
    format!("[\n  {},\n]", items.join(",\n  "))
}
