//! The web site that a server is for everybody else: pages in memory, by path.
//!
//! Whoever probes a bridge gets what a web server gives: pages, 404, 405, a date. It is a site of ours, not a copy of a known server to the last byte; an
//! operator who wants one puts that server in front (nginx, Caddy) and lets it hand over the secret path.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use phantom_core::units::WallTime;
use thiserror::Error;

/// Pages of a site, and their bytes together: they stay in memory.
pub const PAGES_MAX: usize = 1_000;
/// See [`PAGES_MAX`].
pub const BYTES_MAX: usize = 64 << 20;

pub(crate) type Answer = Response<Full<Bytes>>;

/// Pages by the path of a request.
#[derive(Clone, Debug)]
pub struct Site {
    pages: BTreeMap<String, Page>,
    bytes: usize,
    /// What `Server` says.
    software: HeaderValue,
}

#[derive(Clone, Debug)]
struct Page {
    body: Bytes,
    kind: &'static str,
    changed: WallTime,
}

/// The site is larger than a server keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the web site is too large (operator's): wanted at most {PAGES_MAX} files and {BYTES_MAX} bytes, got {pages} and {bytes}"
)]
pub struct TooLarge {
    /// Files so far.
    pub pages: usize,
    /// Bytes so far.
    pub bytes: usize,
}

/// The page of a fresh Apache httpd and its date, which a great many hosts show.
const FRESH: &str = "<html><body><h1>It works!</h1></body></html>\n";
const FRESH_CHANGED: WallTime = WallTime::from_unix_secs(1_181_587_994);

/// The site of a server that nobody has made one for. All such bridges show the same: an operator should have pages of their own.
impl Default for Site {
    fn default() -> Self {
        let mut site = Self::empty();
        site.add("/index.html", FRESH.into(), FRESH_CHANGED)
            .expect("one page is no large site");
        site
    }
}

impl Site {
    /// One without a page.
    pub fn empty() -> Self {
        Self {
            pages: BTreeMap::new(),
            bytes: 0,
            software: HeaderValue::from_static("Apache"),
        }
    }

    /// Adds a page at `path`, which begins with a slash, last changed at that time. `…/index.html` is `…/` too.
    ///
    /// # Errors
    /// [`TooLarge`]
    pub fn add(&mut self, path: &str, body: Bytes, changed: WallTime) -> Result<(), TooLarge> {
        let (pages, bytes) = (self.pages.len() + 1, self.bytes + body.len());
        if pages > PAGES_MAX || bytes > BYTES_MAX {
            return Err(TooLarge { pages, bytes });
        }
        self.bytes = bytes;
        let kind = kind_of(path);
        self.pages.insert(path.to_owned(), Page { body, kind, changed });
        Ok(())
    }

    /// What it says to a request that is not for a bridge.
    pub(crate) fn answer(&self, method: &Method, path: &str, now: WallTime) -> Answer {
        let is_head = method == Method::HEAD;
        if !is_head && method != Method::GET {
            let mut answer = self.error(StatusCode::METHOD_NOT_ALLOWED, false, now);
            let allowed = HeaderValue::from_static("GET,HEAD");
            answer.headers_mut().insert(header::ALLOW, allowed);
            return answer;
        }
        let page = match path.ends_with('/') {
            true => self.pages.get(&format!("{path}index.html")),
            false => self.pages.get(path),
        };
        let Some(page) = page else {
            return self.error(StatusCode::NOT_FOUND, is_head, now);
        };
        let mut answer = self.plain(StatusCode::OK, page.body.clone(), page.kind, is_head, now);
        answer
            .headers_mut()
            .insert(header::LAST_MODIFIED, date(page.changed));
        answer
    }

    /// A page that says what is wrong.
    pub(crate) fn error(&self, status: StatusCode, is_head: bool, now: WallTime) -> Answer {
        let says = match status {
            StatusCode::NOT_FOUND => "The requested URL was not found on this server.",
            StatusCode::METHOD_NOT_ALLOWED => "The requested method is not allowed for this URL.",
            StatusCode::SERVICE_UNAVAILABLE => {
                "The server is temporarily unable to service your request due to maintenance downtime or capacity\nproblems. Please try again later."
            }
            _ => "Your browser sent a request that this server could not understand.",
        };
        let (code, name) = (status.as_u16(), status.canonical_reason().unwrap_or_default());
        let page = format!(
            "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n<html><head>\n<title>{code} {name}</title>\n</head><body>\n<h1>{name}</h1>\n<p>{says}</p>\n</body></html>\n"
        );
        self.plain(status, page.into(), "text/html; charset=iso-8859-1", is_head, now)
    }

    /// An answer with what every answer says.
    pub(crate) fn plain(
        &self,
        status: StatusCode,
        body: Bytes,
        kind: &'static str,
        is_head: bool,
        now: WallTime,
    ) -> Answer {
        let length = body.len();
        let body = if is_head { Bytes::new() } else { body };
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(header::DATE, date(now));
        headers.insert(header::SERVER, self.software.clone());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        answer
    }
}

/// A date as HTTP writes it (RFC 9110 §5.6.7).
pub(crate) fn date(at: WallTime) -> HeaderValue {
    // Its format ends with the year 9999.
    const LAST: u64 = 253_402_300_799;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at.as_unix_secs().min(LAST));
    HeaderValue::from_str(&httpdate::fmt_http_date(at)).expect("a date is printable")
}

fn kind_of(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "js" => "text/javascript",
        "txt" => "text/plain",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "ico" => "image/vnd.microsoft.icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "pdf" => "application/pdf",
        "xml" => "application/xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix_secs(1_800_000_000);

    #[test]
    fn strangers_get_pages_and_errors_with_the_headers_of_a_web_server() {
        let mut site = Site::default();
        site.add("/a/style.css", "p{}".into(), NOW).unwrap();
        for (method, path, status, kind) in [
            (Method::GET, "/", 200, "text/html"),
            (Method::GET, "/index.html", 200, "text/html"),
            (Method::HEAD, "/", 200, "text/html"),
            (Method::GET, "/a/style.css", 200, "text/css"),
            (Method::GET, "/a/", 404, "text/html; charset=iso-8859-1"),
            (Method::GET, "/a", 404, "text/html; charset=iso-8859-1"),
            (Method::POST, "/", 405, "text/html; charset=iso-8859-1"),
        ] {
            let answer = site.answer(&method, path, NOW);
            let headers = answer.headers();
            assert_eq!(
                (
                    answer.status().as_u16(),
                    headers[header::CONTENT_TYPE].to_str().unwrap()
                ),
                (status, kind),
                "{method} {path}"
            );
            assert_eq!(headers[header::DATE], "Fri, 15 Jan 2027 08:00:00 GMT");
            assert!(headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::SERVER));
            assert_eq!(headers.contains_key(header::LAST_MODIFIED), status == 200);
        }
        assert_eq!(
            Site::default().answer(&Method::GET, "/", NOW).headers()[header::LAST_MODIFIED],
            "Mon, 11 Jun 2007 18:53:14 GMT"
        );
    }

    #[test]
    fn a_site_beyond_its_bounds_is_refused() {
        let mut site = Site::empty();
        assert!(site.add("/a", vec![0; BYTES_MAX + 1].into(), NOW).is_err());
        for page in 0..PAGES_MAX {
            site.add(&format!("/{page}"), Bytes::new(), NOW).unwrap();
        }
        assert!(site.add("/one-more", Bytes::new(), NOW).is_err());
    }

    #[test]
    fn any_time_has_a_date() {
        assert!(date(WallTime::from_unix_secs(u64::MAX)).to_str().is_ok());
        assert_eq!(date(WallTime::from_unix_secs(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
