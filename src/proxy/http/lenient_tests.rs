use proptest::prelude::*;

use super::*;
use crate::proxy::http::sanitize::{Body, Head};

const LIMITS: Limits = Limits { head_max: 8192, headers_max: 100 };

/// What a lenient listener makes of `request`: the head that goes on and what it says, or a status.
fn read(request: &[u8]) -> Result<(Vec<u8>, Head, Vec<Fault>), u16> {
    let end = end_of_head(request, LIMITS).map_err(|refusal| refusal.status)?.ok_or(0_u16)?;
    let head = &request[..end];
    let (head, faults) = match mend(head).map_err(|refusal| refusal.status)? {
        Some(mended) => (mended.head, mended.faults),
        None => (head.to_vec(), Vec::new()),
    };
    let read = sanitize::head(&head, LIMITS).map_err(|refusal| refusal.status)?;
    Ok((head, read, faults))
}

#[test]
fn what_has_one_meaning_is_written_as_it_should_be() {
    for (case, request, want, faults) in [
        (
            "lines end with LF",
            "GET / HTTP/1.1\nHost: a\nX: 1\n\nGET",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
            &[Fault::LineEnds][..],
        ),
        (
            "a list of equal lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2,2\r\n\r\nhi",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
            &[Fault::Length],
        ),
        (
            "names that imitate others",
            "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 2\r\nX_Forwarded-For: 1.2.3.4\r\nX_Y: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\n\r\n",
            &[Fault::Name],
        ),
        (
            "the port that needs no mention",
            "GET http://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://A:80/x HTTP/1.1\r\nHost: A:80\r\n\r\n",
            &[Fault::Port],
        ),
        (
            "the same the other way round",
            "GET https://a/x HTTP/1.1\r\nHost: a:443\r\n\r\n",
            "GET https://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
            &[Fault::Port],
        ),
        (
            "trailers are announced",
            "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            &[Fault::Trailers],
        ),
        (
            "all of it",
            "POST http://a:80/ HTTP/1.1\nHost: a\nTrailer: X\nContent-Length: 2 ,2\nHo_st: b\nHOST_: c\n\n",
            "POST http://a:80/ HTTP/1.1\r\nHost: a:80\r\nContent-Length: 2\r\nHo_st: b\r\nHOST_: c\r\n\r\n",
            &[Fault::LineEnds, Fault::Port, Fault::Trailers, Fault::Length],
        ),
        ("nothing", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[]),
    ] {
        let (head, _, told) = read(request.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(head).unwrap(), want, "{case}");
        assert_eq!(told, faults, "{case}");
    }
}

#[test]
fn what_has_two_meanings_is_refused_all_the_same() {
    for (case, request) in [
        ("line ends of both kinds", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n"),
        ("of both kinds, LF first", "GET / HTTP/1.1\nHost: a\r\nX: 1\n\n"),
        ("LF, and the empty line by CRLF", "GET / HTTP/1.1\nHost: a\n\r\n"),
        ("LF, and a bare CR in a value", "GET / HTTP/1.1\nHost: a\nX: a\rb\n\n"),
        ("LF, and a folded line", "GET / HTTP/1.1\nHost: a\nX: a\n b\n\n"),
        (
            "lengths that differ in a list",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 3\r\n\r\n",
        ),
        ("a list with a gap", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2,,2\r\n\r\n"),
        (
            "a list of what is no number",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2, +2\r\n\r\n",
        ),
        (
            "a list and another length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\nContent-Length: 3\r\n\r\n",
        ),
        (
            "both framings",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("another host in the target", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("another port", "GET http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("two Hosts", "GET http://a:80/ HTTP/1.1\r\nHost: a\r\nHost: a:80\r\n\r\n"),
        ("a user", "GET http://u@a:80/ HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        ("no Host", "GET / HTTP/1.1\n\n"),
    ] {
        assert_eq!(read(request.as_bytes()).map(|_| ()), Err(400), "{case}");
    }
    let large = format!("GET / HTTP/1.1\nX: {}", "x".repeat(8192));
    assert_eq!(read(large.as_bytes()).map(|_| ()), Err(431));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::proxy::http::fuzz_cases()))]

    #[test]
    fn what_was_mended_needs_no_mending_and_says_the_same(
        pieces in sanitize::tests::pieces()
    ) {
        let bytes = pieces.concat();
        let Ok((head, told, _)) = read(&bytes) else { return Ok(()) };
        prop_assert_eq!(mend(&head), Ok(None));
        prop_assert_eq!(sanitize::end_of_head(&head, LIMITS), Ok(Some(head.len())));
        prop_assert_eq!(sanitize::head(&head, LIMITS), Ok(told));
        prop_assert!(told.body != Body::Length(0));
    }

    #[test]
    fn a_strict_listener_and_a_lenient_one_agree_on_what_the_strict_one_carries(
        pieces in sanitize::tests::pieces()
    ) {
        let bytes = pieces.concat();
        if let Ok(Some(end)) = sanitize::end_of_head(&bytes, LIMITS)
            && let Ok(strict) = sanitize::head(&bytes[..end], LIMITS)
        {
            prop_assert_eq!(read(&bytes), Ok((bytes[..end].to_vec(), strict, Vec::new())));
        }
    }
}
