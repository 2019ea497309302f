"""`send_email_executor`, and mails through the operator's mail server."""
