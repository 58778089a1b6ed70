//! `GET /v1/why`: why a service answers as it does, or a request goes where it goes.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::admin::Admin;

/// Tells why a service answers as it does; without a name, the services worth asking about.
pub type Reasons = Arc<dyn Fn(Option<&str>) -> Option<Value> + Send + Sync>;

/// Tells why a request goes where it goes. An error says what is wrong with the question.
pub type UrlReasons = Arc<dyn Fn(&Inquiry) -> Result<Value, String> + Send + Sync>;

/// A request that somebody asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// Its URL.
    pub url: String,
    /// Its method.
    pub method: String,
    /// Its header lines beside `Host`.
    pub headers: Vec<(String, String)>,
    /// Who sends it.
    pub client: IpAddr,
}

/// What may be asked.
#[derive(Debug, PartialEq, Eq)]
enum Question {
    Trouble,
    Service(String),
    Url(Inquiry),
}

impl Question {
    /// Reads the parameters of a query.
    fn read(parameters: Vec<(String, String)>) -> Result<Self, String> {
        const FORM: &str = "ask as /v1/why?service=NAME, as /v1/why?url=http://host/path (with method=, \
                            client= and any number of header=NAME:VALUE), or /v1/why for the \
                            services in trouble";
        let (mut service, mut url, mut method, mut client) = (None, None, None, None);
        let mut headers = Vec::new();
        for (key, value) in parameters {
            let known = match &*key {
                "service" => service.replace(value),
                "url" => url.replace(value),
                "method" => method.replace(value),
                "client" => client.replace(value),
                "header" => {
                    let (name, value) = value
                        .split_once(':')
                        .ok_or_else(|| format!("header={value:?} has no colon: {FORM}"))?;
                    headers.push((name.trim().to_owned(), value.trim().to_owned()));
                    None
                }
                _ => return Err(format!("{key:?} is not known: {FORM}")),
            };
            if known.is_some() {
                return Err(format!("{key:?} stands there twice: {FORM}"));
            }
        }
        let more = method.is_some() || client.is_some() || !headers.is_empty();
        match (service, url) {
            (None, None) if !more => Ok(Self::Trouble),
            (Some(service), None) if !more => Ok(Self::Service(service)),
            (None, Some(url)) => {
                let client = client.unwrap_or_else(|| "127.0.0.1".to_owned());
                let client = client
                    .parse()
                    .map_err(|_| format!("client={client:?} is no address: {FORM}"))?;
                let method = method.unwrap_or_else(|| "GET".to_owned());
                Ok(Self::Url(Inquiry { url, method, headers, client }))
            }
            _ => Err(FORM.to_owned()),
        }
    }
}

pub(super) async fn why(
    State(admin): State<Arc<Admin>>,
    parameters: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let question = match parameters {
        Ok(Query(parameters)) => Question::read(parameters),
        Err(error) => Err(error.body_text()),
    };
    let told = match question {
        Err(message) => return (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response(),
        Ok(Question::Trouble) => (admin.why)(None),
        Ok(Question::Service(name)) => (admin.why)(Some(&name)),
        Ok(Question::Url(inquiry)) => {
            let reasons = Arc::clone(&admin.why_url);
            // It may go through all routes: others are served meanwhile.
            return match tokio::task::spawn_blocking(move || reasons(&inquiry)).await {
                Ok(Ok(told)) => Json(told).into_response(),
                Ok(Err(message)) => {
                    (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response()
                }
                Err(error) => {
                    tracing::error!(%error, "a URL could not be explained");
                    StatusCode::INTERNAL_SERVER_ERROR.into_response()
                }
            };
        }
    };
    match told {
        Some(told) => Json(told).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing is published yet\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<Question, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Question::read(parameters.iter().map(owned).collect())
    }

    #[test]
    fn a_question_is_about_trouble_a_service_or_a_url_and_anything_else_is_told_the_form() {
        assert_eq!(read(&[]), Ok(Question::Trouble));
        assert_eq!(read(&[("service", "web")]), Ok(Question::Service("web".into())));
        let url = [
            ("url", "http://a/"),
            ("method", "POST"),
            ("header", "Accept: a:b"),
            ("header", "x-b:1"),
            ("client", "10.0.0.1"),
        ];
        let Ok(Question::Url(inquiry)) = read(&url) else { panic!("{url:?}") };
        assert_eq!((&*inquiry.url, &*inquiry.method), ("http://a/", "POST"));
        assert_eq!(
            inquiry.headers,
            [("Accept", "a:b"), ("x-b", "1")].map(|(n, v)| (n.into(), v.into()))
        );
        assert_eq!(inquiry.client, IpAddr::from([10, 0, 0, 1]));
        for wrong in [
            &[("service", "a"), ("url", "http://a/")][..],
            &[("service", "a"), ("method", "GET")],
            &[("service", "a"), ("service", "b")],
            &[("host", "a")],
            &[("method", "GET")],
            &[("url", "http://a/"), ("client", "me")],
            &[("url", "http://a/"), ("header", "x")],
        ] {
            assert!(read(wrong).unwrap_err().contains("url=http://host/path"), "{wrong:?}");
        }
    }
}
