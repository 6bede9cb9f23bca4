//! What an error of the SDK means for the write or the read that met it.

use crate::lifecycle::StoreFault;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// Maps an SDK error to what follows from it.
pub(super) fn fault_of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> StoreFault {
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            of_code(service.err().code().unwrap_or(""), service.err().message().unwrap_or(""), status)
        }
        SdkError::ResponseError(response) => {
            if response.raw().status().as_u16() == 403 {
                StoreFault::Denied
            } else {
                StoreFault::Unreachable
            }
        }
        SdkError::ConstructionFailure(_) => StoreFault::Other,
        // No credentials, or a role that is not given: it never came to a connection.
        SdkError::DispatchFailure(failure) if failure.is_other() && failure.as_other().is_none() => {
            StoreFault::Denied
        }
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) => StoreFault::Unreachable,
        // Whatever kind a later SDK adds: nothing was acknowledged.
        _ => StoreFault::Unreachable,
    }
}

/// The error codes of Secrets Manager and of AWS's front ends ("Common errors" in the API reference).
fn of_code(code: &str, message: &str, status: u16) -> StoreFault {
    match code {
        "AccessDeniedException"
        | "AccessDenied"
        | "NotAuthorized"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "OptInRequired" => StoreFault::Denied,
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "ProvisionedThroughputExceededException" => StoreFault::Throttled,
        "LimitExceededException" => StoreFault::Quota,
        "ResourceNotFoundException" => StoreFault::Missing,
        "EncryptionFailure"
        | "DecryptionFailure"
        | "KMSAccessDeniedException"
        | "KMSInvalidStateException" => StoreFault::Key,
        "InvalidRequestException" if message.contains("deletion") || message.contains("deleted") => {
            StoreFault::Deleted
        }
        _ if status >= 500 => StoreFault::Unreachable,
        _ if status == 403 => StoreFault::Denied,
        _ => StoreFault::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::{fault_of, of_code};
    use crate::lifecycle::StoreFault;
    use aws_sdk_secretsmanager::error::{ConnectorError, SdkError};
    use aws_sdk_secretsmanager::operation::put_secret_value::PutSecretValueError;

    #[test]
    fn missing_credentials_are_denied_and_a_broken_connection_is_not() {
        let fault = |error| fault_of::<PutSecretValueError>(&SdkError::dispatch_failure(error));
        assert_eq!(fault(ConnectorError::other("no credentials".into(), None)), StoreFault::Denied);
        assert_eq!(fault(ConnectorError::io("reset".into())), StoreFault::Unreachable);
        assert_eq!(fault(ConnectorError::timeout("late".into())), StoreFault::Unreachable);
    }

    #[test]
    fn each_code_leads_to_its_fault() {
        for (code, message, status, fault) in [
            ("AccessDeniedException", "", 400, StoreFault::Denied),
            ("ThrottlingException", "", 400, StoreFault::Throttled),
            ("LimitExceededException", "", 400, StoreFault::Quota),
            ("ResourceNotFoundException", "", 400, StoreFault::Missing),
            ("DecryptionFailure", "", 400, StoreFault::Key),
            ("InvalidRequestException", "because it was marked for deletion", 400, StoreFault::Deleted),
            ("InvalidRequestException", "something else", 400, StoreFault::Other),
            ("InternalServiceError", "", 500, StoreFault::Unreachable),
            ("", "", 403, StoreFault::Denied),
        ] {
            assert_eq!(of_code(code, message, status), fault, "{code} {message}");
        }
    }
}
