//! Sets of addresses and names that rules speak of as `"@name"`: those of the file itself, and those that whoever uses the
//! file knows (a simulated world: what is published, who is in a population).

use std::collections::BTreeMap;

use phantom_placed::words::{nearest, shortened};
use phantom_placed::{At, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Address, Pattern};
use crate::engine::addresses::Addresses;
use crate::engine::names::Names;

/// A set as a file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct List {
    /// Addresses, for `to` and `from`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Names, for `names`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Pattern>,
    /// Whether addresses join it while the censor works. No file says so: what learns is the world.
    #[serde(skip)]
    pub grows: bool,
}

/// Sets by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists(BTreeMap<String, List>);

impl Lists {
    /// Adds a set; one of the same name gives way.
    pub fn insert(&mut self, name: impl Into<String>, list: List) {
        self.0.insert(name.into(), list);
    }

    /// These and `more`, which give way where both have a name.
    #[must_use]
    pub fn over(&self, more: &Self) -> Self {
        let mut all = more.0.clone();
        all.extend(self.0.iter().map(|(name, list)| (name.clone(), list.clone())));
        Self(all)
    }

    /// Why there is no such set.
    pub(super) fn unknown(&self, name: &str) -> Option<Problem> {
        if self.0.contains_key(name) {
            return None;
        }
        let names = || self.0.keys().map(String::as_str);
        let mut message = format!("unknown list '@{}'", shortened(name));
        if let Some(near) = nearest(name, names()) {
            message.push_str(&format!("; did you mean '@{near}'?"));
        }
        let help = match self.0.is_empty() {
            true => "no list is known here; a file names its own in [list.<name>], a scenario gives 'published', 'directory', its \
                     populations and those of its [censor.list]"
                .to_owned(),
            false => {
                let all: Vec<String> = names().map(|name| format!("@{name}")).collect();
                format!("choices: {}", all.join(", "))
            }
        };
        Some(Problem::new(At::NONE, message).help(help))
    }

    /// The set of addresses that `texts` say. A list that is not known counts as empty.
    pub(super) fn addresses<'a>(&self, texts: impl IntoIterator<Item = &'a Address>) -> Addresses {
        let mut set = Addresses::new();
        for text in texts {
            self.add(text, &mut set);
        }
        set
    }

    fn add(&self, text: &Address, set: &mut Addresses) {
        match text {
            Address::Host(host) => set.add(*host),
            Address::Endpoint(endpoint) => set.add_endpoint(*endpoint),
            Address::Prefix(address, bits) => set.add_prefix(*address, *bits),
            Address::List(name) => {
                let Some(list) = self.0.get(name) else { return };
                if list.grows {
                    set.follow(name.clone());
                }
                // A list of lists would need an order; its own are addresses.
                let own = list.addresses.iter();
                own.filter(|text| !matches!(text, Address::List(_)))
                    .for_each(|text| self.add(text, set));
            }
        }
    }

    /// The set of names that `patterns` say.
    pub(super) fn names<'a>(&self, patterns: impl IntoIterator<Item = &'a Pattern>) -> Names {
        let mut set = Names::new();
        for pattern in patterns {
            match pattern.list() {
                None => set.add(&pattern.0),
                Some(name) => {
                    let listed = self.0.get(name).into_iter().flat_map(|list| &list.names);
                    listed.for_each(|pattern| set.add(&pattern.0));
                }
            }
        }
        set
    }

    /// What is wrong with the sets themselves.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.0.iter().filter_map(|(name, list)| {
            let lists = list.addresses.iter().any(|text| matches!(text, Address::List(_)))
                || list.names.iter().any(|pattern| pattern.list().is_some());
            let empty = list.addresses.is_empty() && list.names.is_empty() && !list.grows;
            let what = match (lists, empty) {
                (true, _) => "a list holds addresses and names, not other lists",
                (_, true) => "it has neither 'addresses' nor 'names'",
                _ => return None,
            };
            Some(Problem::new(
                At::NONE,
                format!("list '{}': {what}", shortened(name)),
            ))
        })
    }
}

impl FromIterator<(String, List)> for Lists {
    fn from_iter<I: IntoIterator<Item = (String, List)>>(lists: I) -> Self {
        Self(lists.into_iter().collect())
    }
}
