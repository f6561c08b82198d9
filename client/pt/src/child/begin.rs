//! The first answers: version, environment, proxy. Spec: pt-spec §3, steps 2 to 4.

use std::ffi::OsString;
use std::io;

use thiserror::Error;

use super::Answers;
use crate::env::{EnvError, Environment, OrPort, Role, Variables};
use crate::message::{Message, Severity};
use crate::proxy::ProxyScheme;

/// Why the program must end. The parent has been told, if it still listens.
#[derive(Debug, Error)]
pub enum BeginError {
    /// The parent asks for what cannot be.
    #[error(transparent)]
    Environment(#[from] EnvError),
    /// The parent is gone.
    #[error("writing to standard output, for the parent: {0}")]
    Io(#[from] io::Error),
}

/// Reads what the parent wants and answers VERSION and, if there is a proxy, PROXY; or the error, and then the program must
/// end. `proxies` are the kinds of upstream proxy that the program's transports can go through.
///
/// # Errors
/// What is wrong with which variable; or the parent is gone.
pub fn begin(
    pairs: impl IntoIterator<Item = (OsString, OsString)>,
    proxies: &[ProxyScheme],
    answers: &Answers,
) -> Result<Environment, BeginError> {
    let variables = Variables::collect(pairs);
    let begun = begin_with(&variables, proxies, answers);
    if let Err(BeginError::Environment(error)) = &begun {
        answers.say(&error.answer())?;
    }
    begun
}

fn begin_with(
    variables: &Variables,
    proxies: &[ProxyScheme],
    answers: &Answers,
) -> Result<Environment, BeginError> {
    variables.version()?;
    answers.say(&Message::Version(crate::env::VERSION.to_owned()))?;
    let environment = variables.environment()?;
    match &environment.role {
        Role::Client {
            proxy: Some(proxy), ..
        } => {
            proxy.speaks(proxies).map_err(EnvError::from)?;
            answers.say(&Message::ProxyDone)?;
        }
        // Spec: ext-orport-spec §4.
        Role::Server {
            orport: OrPort::Extended { address, .. },
            ..
        } if !address.ip().is_loopback() => {
            let text = "the Extended ORPort is not on this machine: who the clients are crosses a network in the clear";
            answers.log(Severity::Warning, text)?;
        }
        _ => {}
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::answers::tests::Flushed;

    fn answer(more: &[(&str, &str)]) -> (bool, String) {
        let out = Flushed::default();
        let all = [("TOR_PT_STATE_LOCATION", "/s")];
        let pairs = all
            .iter()
            .chain(more)
            .map(|(name, value)| (name.into(), value.into()));
        let begun = begin(pairs, &[ProxyScheme::Socks5], &Answers::to(out.clone()));
        (begun.is_ok(), out.text())
    }

    const ONE: (&str, &str) = ("TOR_PT_MANAGED_TRANSPORT_VER", "1");
    const CLIENT: (&str, &str) = ("TOR_PT_CLIENT_TRANSPORTS", "a");

    #[test]
    fn the_first_answers_are_those_of_the_specification() {
        let proxy = |uri| answer(&[ONE, CLIENT, ("TOR_PT_PROXY", uri)]);
        assert_eq!(answer(&[ONE, CLIENT]), (true, "VERSION 1\n".into()));
        assert_eq!(
            proxy("socks5://127.0.0.1:1"),
            (true, "VERSION 1\nPROXY DONE\n".into())
        );
        let unsupported =
            "VERSION 1\nPROXY-ERROR http upstream proxies are not supported here: wanted socks5\n";
        assert_eq!(proxy("http://127.0.0.1:1"), (false, unsupported.into()));
        let two = ("TOR_PT_MANAGED_TRANSPORT_VER", "2");
        assert_eq!(
            answer(&[two, CLIENT]),
            (false, "VERSION-ERROR no-version\n".into())
        );
        let (begun, said) = answer(&[ONE]);
        assert!(
            !begun && said.starts_with("VERSION 1\nENV-ERROR neither"),
            "{said}"
        );
        let (begun, said) = answer(&[]);
        assert!(
            !begun && said.starts_with("ENV-ERROR TOR_PT_MANAGED_TRANSPORT_VER is not set"),
            "{said}"
        );
    }

    #[test]
    fn an_extended_orport_of_another_machine_is_warned_of() {
        let server = |address| {
            let cookie = ("TOR_PT_AUTH_COOKIE_FILE", "/c");
            let port = ("TOR_PT_EXTENDED_SERVER_PORT", address);
            answer(&[ONE, ("TOR_PT_SERVER_TRANSPORTS", "a"), port, cookie]).1
        };
        assert_eq!(server("127.0.0.1:1"), "VERSION 1\n");
        assert!(server("192.0.2.1:1").contains("LOG SEVERITY=warning"));
    }
}
