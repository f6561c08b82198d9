//! The table of DNS names: what an honest resolver answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The addresses behind one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// IPv4 and IPv6 addresses, in the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// How long a resolver may keep the answer.
    pub ttl: Duration,
}

/// All names of a world. Names are compared without regard to case or a final dot.
#[derive(Clone, Debug, Default)]
pub struct Names {
    table: BTreeMap<String, Record>,
}

impl Names {
    /// Sets what `name` resolves to.
    pub fn insert(&mut self, name: &str, addresses: Vec<IpAddr>, ttl: Duration) {
        self.table.insert(canonical(name), Record { addresses, ttl });
    }

    /// Forgets `name`.
    pub fn remove(&mut self, name: &str) {
        self.table.remove(&canonical(name));
    }

    /// The true answer for `name`, `None` if it does not exist.
    pub fn lookup(&self, name: &str) -> Option<&Record> {
        self.table.get(&canonical(name))
    }
}

/// `name` in lower case and without its final dot.
pub fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ignore_case_and_the_final_dot() {
        let mut names = Names::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        names.insert("Entry.Example.", vec![address], Duration::from_secs(300));
        assert_eq!(
            names.lookup("entry.example").map(|r| r.addresses[0]),
            Some(address)
        );
        names.remove("ENTRY.example");
        assert_eq!(names.lookup("entry.example"), None);
    }
}
