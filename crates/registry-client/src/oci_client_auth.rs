use oci_client::secrets::RegistryAuth;

use crate::credentials::Credentials;

impl From<RegistryAuth> for Credentials {
    fn from(auth: RegistryAuth) -> Self {
        match auth {
            RegistryAuth::Anonymous => Self::Anonymous,
            RegistryAuth::Basic(username, password) => Self::Basic { username, password },
            RegistryAuth::Bearer(token) => Self::Bearer(token),
        }
    }
}
