//! Bytes on their way out, whole or a range of them: a device that lost its network goes on where it was.
//!
//! **Invariant:** however large a file is, no more of it is in memory than one piece.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, ReadBuf, SeekFrom, Take};
use tokio_util::io::ReaderStream;

use super::{Contents, Kept};
use crate::error::{Error, Result};
use crate::storage::Store;

/// How much of a file is read at once.
const PIECE: usize = 64 * 1024;

impl Contents {
    /// As [`Contents::respond_holding`], with nothing to hold.
    ///
    /// # Errors
    /// The disk's and the database's.
    pub async fn respond(
        &self,
        store: &Store,
        kept: &Kept,
        media_type: &str,
        asked: &HeaderMap,
    ) -> Result<Response> {
        self.respond_holding(store, kept, media_type, asked, ()).await
    }

    /// A reply with the bytes, or with the one range of them that was asked for (RFC 9110, section 14). `place`
    /// is let go of when the last of them was taken: who takes its time may be bounded by it.
    ///
    /// # Errors
    /// The disk's and the database's.
    pub async fn respond_holding(
        &self,
        store: &Store,
        kept: &Kept,
        media_type: &str,
        asked: &HeaderMap,
        place: impl Send + 'static,
    ) -> Result<Response> {
        let tag = format!("\"{}\"", kept.id);
        let range = match wanted(asked, &tag, kept.size) {
            Wanted::All => None,
            Wanted::Part(range) => Some(range),
            Wanted::Nothing => {
                let whole = format!("bytes */{}", kept.size);
                return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, whole)]).into_response());
            }
        };
        let part = range.clone().unwrap_or(0..kept.size);
        let body = if kept.size <= super::IN_DATABASE {
            let (contents, wanted) = (self.clone(), kept.clone());
            let mut bytes = store.read(move |conn| contents.load(conn, &wanted)).await?;
            let from = usize::try_from(part.start).unwrap_or(usize::MAX).min(bytes.len());
            let to = usize::try_from(part.end).unwrap_or(usize::MAX).min(bytes.len());
            bytes.truncate(to);
            Body::from(Bytes::from_owner(Held { bytes: bytes.split_off(from), _place: place }))
        } else {
            let contents = self.clone();
            let name = kept.id.clone();
            let file = tokio::task::spawn_blocking(move || contents.file(&name))
                .await
                .map_err(|source| Error::caused("a file could not be opened", source))??;
            let mut file = File::from_std(file);
            file.seek(SeekFrom::Start(part.start))
                .await
                .map_err(|source| Error::caused(format!("the file {} cannot be read", kept.id), source))?;
            let reader = Reader { file: file.take(part.end - part.start), _place: place };
            Body::from_stream(ReaderStream::with_capacity(reader, PIECE))
        };
        let mut response = body.into_response();
        let headers = response.headers_mut();
        let text = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        headers.insert(CONTENT_TYPE, text(media_type));
        headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
        headers.insert(ETAG, text(&tag));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        // What somebody uploaded is never shown as something else than it was said to be.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(range) = range {
            headers.insert(
                CONTENT_RANGE,
                text(&format!("bytes {}-{}/{}", range.start, range.end - 1, kept.size)),
            );
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(response)
    }
}

/// Bytes of a reply, with the place that they take up wherever they wait.
struct Held<P> {
    bytes: Vec<u8>,
    _place: P,
}

impl<P> AsRef<[u8]> for Held<P> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A file that is sent, with its place.
struct Reader<P> {
    file: Take<File>,
    _place: P,
}

// Nothing in it is looked at through a pin.
impl<P> Unpin for Reader<P> {}

impl<P> AsyncRead for Reader<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.file).poll_read(cx, buffer)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    Nothing,
}

/// What a request asks for; a list of ranges, and what is not understood, is answered with the whole.
fn wanted(asked: &HeaderMap, tag: &str, size: u64) -> Wanted {
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
    if text(IF_RANGE).is_some_and(|known| known != tag) {
        return Wanted::All;
    }
    let Some((first, last)) =
        text(RANGE).and_then(|range| range.strip_prefix("bytes=")).and_then(|range| range.split_once('-'))
    else {
        return Wanted::All;
    };
    let number =
        |text: &str| (text.bytes().all(|digit| digit.is_ascii_digit())).then(|| text.parse::<u64>().ok())?;
    let range = match (first.trim(), last.trim()) {
        ("", last) => number(last).map(|count| size.saturating_sub(count)..size),
        (first, "") => number(first).map(|first| first..size),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(first..last.saturating_add(1).min(size)),
            _ => None,
        },
    };
    match range {
        None => Wanted::All,
        Some(range) if range.start >= range.end => Wanted::Nothing,
        Some(range) => Wanted::Part(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_and_everything_else_is_the_whole() {
        for (range, expected) in [
            ("bytes=0-99", Wanted::Part(0..100)),
            ("bytes=90-", Wanted::Part(90..100)),
            ("bytes=-10", Wanted::Part(90..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..100)),
            ("bytes=99-99", Wanted::Part(99..100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=-", Wanted::All),
            ("items=0-1", Wanted::All),
        ] {
            let headers = HeaderMap::from_iter([(RANGE, range.parse().unwrap())]);
            let found = wanted(&headers, "\"x\"", 100);
            assert_eq!(found, expected, "{range}");
        }
        let changed = HeaderMap::from_iter([
            (RANGE, "bytes=0-1".parse().unwrap()),
            (IF_RANGE, "\"y\"".parse().unwrap()),
        ]);
        assert_eq!(wanted(&changed, "\"x\"", 100), Wanted::All);
        assert_eq!(
            wanted(&HeaderMap::from_iter([(RANGE, "bytes=0-".parse().unwrap())]), "", 0),
            Wanted::Nothing
        );
    }
}
