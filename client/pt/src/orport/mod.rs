//! The Extended ORPort: how a server's transport tells the program behind it who a connection is of. Spec: ext-orport-spec.
//!
//! It proves access to a file on the same machine and protects nothing else: it belongs on loopback.

mod client;
mod cookie;
mod server;

pub use client::{Client, ClientError, connect};
pub use cookie::{Cookie, CookieError, Nonce};
pub use server::{Accepted, Introduction, Server, ServerError, accept};

/// The one way to authenticate.
const SAFE_COOKIE: u8 = 1;
const HASH_LEN: usize = 32;

/// Commands and answers of the part after authentication.
const DONE: u16 = 0x0000;
const USERADDR: u16 = 0x0001;
const TRANSPORT: u16 = 0x0002;
const OKAY: u16 = 0x1000;
const DENY: u16 = 0x1001;

fn command(code: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = code.to_be_bytes().to_vec();
    bytes.extend((body.len() as u16).to_be_bytes()); // an address or a name: 64 bytes at most
    bytes.extend_from_slice(body);
    bytes
}

/// Code and length of a body.
const fn head(bytes: [u8; 4]) -> (u16, usize) {
    let [code_high, code_low, length_high, length_low] = bytes;
    let length = u16::from_be_bytes([length_high, length_low]);
    (u16::from_be_bytes([code_high, code_low]), length as usize)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::exchange::ExchangeError;
    use crate::exchange::tests::play;
    use crate::name::TransportName;

    const LIMIT: Duration = Duration::from_secs(5);

    fn rng() -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(7)
    }

    fn introduction() -> Introduction {
        let client = Some(SocketAddr::from(([0xfd, 0, 0, 0, 0, 0, 0, 1], 9)));
        let transport = Some("obfs4".parse::<TransportName>().unwrap());
        Introduction { client, transport }
    }

    /// Both sides of this crate, each with its cookie.
    async fn meet(
        ours: Cookie,
        theirs: Cookie,
        allow: bool,
    ) -> (
        Result<Introduction, ExchangeError<ServerError>>,
        Result<(), ExchangeError<ClientError>>,
    ) {
        let (near, far) = tokio::io::duplex(64);
        let (told, limit) = (introduction(), LIMIT);
        let client = async move {
            let mut stream = connect(near, &ours, Nonce::from_bytes([5; 32]), &told, limit).await?;
            stream.write_all(b"the client's bytes").await.unwrap();
            Ok::<_, ExchangeError<ClientError>>(())
        };
        let server = async move {
            let accepted = accept(far, &theirs, Nonce::from_bytes([6; 32]), limit).await?;
            let introduction = accepted.introduction().clone();
            if allow {
                let mut bytes = String::new();
                let mut stream = accepted.allow(limit).await.unwrap();
                stream.read_to_string(&mut bytes).await.unwrap();
                assert_eq!(bytes, "the client's bytes");
            } else {
                accepted.deny(limit).await.unwrap();
            }
            Ok::<_, ExchangeError<ServerError>>(introduction)
        };
        let (mut client, mut server) = (Box::pin(client), Box::pin(server));
        let (mut one, mut two) = (None, None);
        while one.is_none() || two.is_none() {
            tokio::select! {
                biased;
                done = &mut server, if one.is_none() => one = Some(done),
                done = &mut client, if two.is_none() => two = Some(done),
            }
        }
        one.zip(two).unwrap()
    }

    #[tokio::test]
    async fn who_a_client_is_arrives_and_its_bytes_follow() {
        let cookie = Cookie::from_rng(&mut rng());
        let (server, client) = meet(cookie.clone(), cookie, true).await;
        client.unwrap();
        assert_eq!(server.unwrap(), introduction());
    }

    #[tokio::test]
    async fn a_client_that_is_denied_is_told_so() {
        let cookie = Cookie::from_rng(&mut rng());
        let (_, client) = meet(cookie.clone(), cookie, false).await;
        assert!(matches!(
            client.unwrap_err(),
            ExchangeError::Refused(ClientError::Denied)
        ));
    }

    #[tokio::test]
    async fn without_the_cookie_the_client_goes_away_before_it_shows_anything() {
        let mut other = rng();
        let cookies = (Cookie::from_rng(&mut other), Cookie::from_rng(&mut other));
        let (server, client) = meet(cookies.0, cookies.1, true).await;
        assert!(matches!(
            client.unwrap_err(),
            ExchangeError::Refused(ClientError::WrongServer)
        ));
        assert!(matches!(server.unwrap_err(), ExchangeError::Io(_)));
    }

    fn server() -> Server {
        Server::new(Cookie::from_bytes([1; 32]), Nonce::from_bytes([2; 32]))
    }

    #[test]
    fn a_client_without_the_cookie_is_refused() {
        let theirs = [&[1][..], &[3; 32], &[4; 32]].concat();
        let (sent, end) = play(&mut server(), &theirs);
        assert_eq!(sent.last(), Some(&0));
        assert_eq!(end.unwrap(), Err(ServerError::WrongClient));
        assert_eq!(play(&mut server(), &[0]).1.unwrap(), Err(ServerError::Method(0)));
    }

    /// What a client that has the cookie sends before its commands.
    fn authenticated() -> Vec<u8> {
        let (cookie, nonce) = (Cookie::from_bytes([1; 32]), Nonce::from_bytes([3; 32]));
        let hash = cookie.client_hash(&nonce, &Nonce::from_bytes([2; 32]));
        [&[1][..], nonce.as_bytes(), &hash].concat()
    }

    #[test]
    fn unknown_commands_are_ignored_and_known_ones_must_be_right() {
        let told = |commands: &[u8]| play(&mut server(), &[&authenticated(), commands].concat()).1;
        let long = command(0x0777, &[9; 3000]);
        let all = [
            &long[..],
            &command(USERADDR, b"1.2.3.4:5"),
            &command(DONE, b"ignored"),
        ]
        .concat();
        let client = Some(SocketAddr::from(([1, 2, 3, 4], 5)));
        let transport = None;
        assert_eq!(told(&all), Some(Ok(Introduction { client, transport })));
        assert_eq!(
            told(&command(USERADDR, b"localhost:5")),
            Some(Err(ServerError::Address))
        );
        assert_eq!(told(&command(TRANSPORT, b"4")), Some(Err(ServerError::Transport)));
        assert_eq!(
            told(&command(TRANSPORT, &[b'a'; 400])),
            Some(Err(ServerError::Body(400)))
        );
        let forever = command(0x0777, b"").repeat(100);
        assert_eq!(told(&forever), Some(Err(ServerError::TooMany)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_either_side_panic(bytes in any::<Vec<u8>>()) {
            let _ = play(&mut server(), &bytes);
            let _ = play(&mut server(), &[&authenticated(), &bytes[..]].concat());
            let client = || Client::new(Cookie::from_bytes([1; 32]), Nonce::from_bytes([3; 32]), &introduction());
            let _ = play(&mut client(), &bytes);
            let (ours, theirs) = (Nonce::from_bytes([3; 32]), Nonce::from_bytes([2; 32]));
            let hash = Cookie::from_bytes([1; 32]).server_hash(&ours, &theirs);
            let right = [&[1, 0][..], &hash, theirs.as_bytes(), &[1], &bytes].concat();
            let _ = play(&mut client(), &right);
        }
    }
}
