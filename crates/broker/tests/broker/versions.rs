//! ApiVersions, and requests in every version that is advertised.

use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::ApiVersionsResponse;
use ottla_protocol::{ApiKey, Decoder};
use ottla_types::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{self, start, text};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_is_answered_in_version_0() {
    let (_directory, broker) = start().await;
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap();
    // Version 127 of ApiVersions; the header's client id is null, the rest is unreadable to this broker.
    stream.write_all(&[0, 0, 0, 11, 0, 18, 0, 127, 0, 0, 0, 5, 255, 255, 0]).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(body[..4], [0, 0, 0, 5], "the correlation id");
    let response = ApiVersionsResponse::decode(&mut Decoder::new(body.split_off(4).into()), 0).unwrap();
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    let own = response.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.code()).unwrap();
    assert_eq!((own.min_version, own.max_version), (0, 5));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_lists_what_is_served() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    let request = ApiVersionsRequest {
        client_software_name: text("test"),
        client_software_version: text("1.0"),
        ..Default::default()
    };
    for version in 0..=5 {
        let response = connection.send_as(&request, version, support::TIMEOUT).await.unwrap();
        assert_eq!(response.error_code, 0, "version {version}");
        let produce = response.api_keys.iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13), "KAFKA-18659");
        assert!(response.api_keys.iter().all(|api| api.api_key != ApiKey::AddPartitionsToTxn.code()));
        let finalized = response.finalized_features.iter();
        let finalized: Vec<_> =
            finalized.map(|feature| (feature.name.to_string(), feature.max_version_level)).collect();
        if version >= 3 {
            let kafkas = [("metadata.version".to_owned(), 33)];
            assert_eq!(finalized, kafkas, "transactions and new groups are not finalized");
        }
    }
    let unnamed = ApiVersionsRequest::default();
    let refused = connection.send_as(&unnamed, 3, support::TIMEOUT).await.unwrap();
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
    let elsewhere = ApiVersionsRequest { cluster_id: Some(text("another-cluster")), ..request };
    let sent_away = connection.send_as(&elsewhere, 5, support::TIMEOUT).await.unwrap();
    assert_eq!(sent_away.error_code, ErrorCode::RebootstrapRequired.code());
    broker.stop().await;
}
