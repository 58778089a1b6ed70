use bytes::Bytes;
use h2::client::ResponseFuture;
use http::{HeaderMap, Request};
use pingora_core::protocols::http::HttpTask;
use tokio::io::duplex;

use super::*;
use crate::proxy::limit::bandwidth::Pace;

/// A stream that was asked for by `request`, and its client's side.
async fn streamed(request: Request<()>) -> (Streamed, ResponseFuture) {
    let (ours, theirs) = duplex(64 << 10);
    let (server, client) = tokio::join!(h2::server::handshake(ours), h2::client::handshake(theirs));
    let (mut server, (mut send, client)) = (server.unwrap(), client.unwrap());
    tokio::spawn(client);
    let (answer, _) = send.send_request(request, true).unwrap();
    let (request, respond) = server.accept().await.unwrap().unwrap();
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    let (head, body) = request.into_parts();
    let streamed = Streamed {
        head: head.into(),
        body: Incoming::new(body),
        reply: Reply::new(respond, Pace::default()),
        written: None,
        kept: Kept::Nothing,
        patience: None,
        drained_within: None,
    };
    (streamed, answer)
}

fn ask(method: &str) -> Request<()> {
    Request::builder().method(method).uri("http://a/").body(()).unwrap()
}

fn head(status: u16, lines: &[(&'static str, &'static str)]) -> Box<ResponseHeader> {
    let mut head = ResponseHeader::build(status, None).unwrap();
    for (name, value) in lines {
        head.insert_header(*name, *value).unwrap();
    }
    Box::new(head)
}

#[tokio::test]
async fn trailers_of_an_answer_go_on_without_what_is_about_connections() {
    let (mut stream, answer) = streamed(ask("POST")).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("transfer-encoding", "chunked".parse().unwrap());
    let tasks = vec![
        HttpTask::Header(head(200, &[("content-type", "application/grpc")]), false),
        HttpTask::Body(Some(Bytes::from("hi")), false),
        HttpTask::Trailer(Some(Box::new(trailers))),
    ];
    assert!(stream.response_duplex_vec(tasks).await.unwrap());
    drop(stream);
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "hi");
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!((trailers.len(), &trailers["grpc-status"]), (1, &"0".parse().unwrap()));
}

#[tokio::test]
async fn an_answer_of_trailers_alone_ends_with_its_head() {
    let (mut stream, answer) = streamed(ask("POST")).await;
    let tasks = vec![HttpTask::Header(head(200, &[("grpc-status", "5")]), true), HttpTask::Done];
    assert!(stream.response_duplex_vec(tasks).await.unwrap());
    let answer = answer.await.unwrap();
    assert!(answer.body().is_end_stream());
    assert_eq!(answer.headers()["grpc-status"], "5");
}

#[tokio::test]
async fn an_answer_that_is_dropped_before_its_end_is_reset() {
    for begun in [false, true] {
        let (mut stream, answer) = streamed(ask("GET")).await;
        if begun {
            let tasks = vec![
                HttpTask::Header(head(200, &[("content-length", "9")]), false),
                HttpTask::Body(Some(Bytes::from("hi")), false),
            ];
            assert!(!stream.response_duplex_vec(tasks).await.unwrap());
        }
        drop(stream);
        let reset = match answer.await {
            Err(error) => error.reason(),
            Ok(answer) => {
                let mut body = answer.into_body();
                let mut reset = None;
                while let (None, Some(piece)) = (reset, body.data().await) {
                    reset = piece.err().and_then(|error| error.reason());
                }
                reset
            }
        };
        assert_eq!(reset, Some(h2::Reason::INTERNAL_ERROR), "begun: {begun}");
    }
}

#[tokio::test]
async fn nothing_but_a_head_is_sent_where_nothing_else_may_be() {
    for (method, status, lines) in [
        ("HEAD", 200, &[("content-length", "2")][..]),
        ("GET", 204, &[]),
        ("GET", 304, &[("content-length", "2")]),
        ("GET", 200, &[("content-length", "0")]),
    ] {
        let (mut stream, answer) = streamed(ask(method)).await;
        stream.write_response_header(head(status, lines), false).await.unwrap();
        stream.write_body(Bytes::from("hi"), true).await.unwrap();
        stream.finish().await.unwrap();
        let answer = answer.await.unwrap();
        assert!(answer.body().is_end_stream(), "{method} {status}");
    }
}

#[tokio::test]
async fn what_was_read_is_kept_for_another_attempt_up_to_its_limit() {
    let (mut stream, _answer) = streamed(ask("GET")).await;
    assert!(stream.is_body_empty() && stream.is_body_done());
    assert!(!stream.retry_buffer_truncated());
    stream.enable_retry_buffering();
    stream.kept = Kept::All(BytesMut::from("hi"));
    assert_eq!(stream.get_retry_buffer().unwrap(), "hi");
    stream.enable_retry_buffering();
    assert_eq!(stream.get_retry_buffer().unwrap(), "hi", "it is not forgotten");
    stream.kept = Kept::TooLarge;
    assert!(stream.retry_buffer_truncated() && stream.get_retry_buffer().is_none());
}
