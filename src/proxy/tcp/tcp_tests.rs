use prometheus::Registry;
use tokio::net::TcpListener;

use super::*;
use crate::proxy::metrics::Metrics;

#[tokio::test]
async fn a_connection_takes_little_memory_while_it_idles() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let peer = stream.local_addr().unwrap();
    let metrics = Metrics::register(&Registry::new()).unwrap().listener("web");
    let current = Current::new(|| Arc::new(ProxyTable::default()));
    let service = Arc::new(TcpService { name: "web".into(), current, metrics });
    let course = Course {
        target: ServiceRef::parse("web"),
        timeouts: TcpTimeouts::default(),
        sticky: None,
        sealed: false,
    };
    let stream = Stream::Plain(stream);
    let incoming = Incoming { stream, peer, told: None, opening: Vec::new() };
    let served = serve(service, incoming, &course);
    let size = size_of_val(&served);
    // Two sockets take some 700 bytes besides, and the task its own few.
    assert!(size < 1800, "{size} bytes");
    served.await;
}
