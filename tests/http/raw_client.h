// A TCP client that sends exactly the bytes it is told to, for tests of a server's manners.
// Blocking, with a time limit on every read. One thread.
#pragma once

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace mach::testing {

class RawClient {
 public:
  explicit RawClient(int port, int receive_buffer_bytes = 0) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer_bytes > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { Close(); }

  bool connected() const { return connected_; }

  void Close() {
    if (fd_ >= 0) {
      close(fd_);
      fd_ = -1;
    }
  }
  void ShutdownWrite() { shutdown(fd_, SHUT_WR); }

  // False once the server has closed or does not take more for `timeout_ms`.
  bool Send(std::string_view data, int timeout_ms = 20000) {
    while (!data.empty()) {
      pollfd waiting{fd_, POLLOUT, 0};
      if (poll(&waiting, 1, timeout_ms) != 1) {
        return false;
      }
      const ssize_t sent = send(fd_, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EAGAIN) {
        return false;
      }
      data.remove_prefix(static_cast<size_t>(std::max<ssize_t>(sent, 0)));
    }
    return true;
  }

  // Reads until `text` has arrived; returns and removes everything up to its end. Empty if the
  // server closed or stayed silent for `timeout_ms` before.
  std::string ReadUntil(std::string_view text, int timeout_ms = 20000) {
    while (true) {
      const size_t at = received_.find(text);
      if (at != std::string::npos) {
        std::string out = received_.substr(0, at + text.size());
        received_.erase(0, at + text.size());
        return out;
      }
      if (!ReadSome(timeout_ms)) {
        return "";
      }
    }
  }

  // Everything until the server closes; `closed` says whether it did so in time.
  std::string ReadAll(bool* closed = nullptr, int timeout_ms = 20000) {
    while (ReadSome(timeout_ms)) {
    }
    if (closed != nullptr) {
      *closed = eof_;
    }
    return std::move(received_);
  }

  // One response with a Content-Length: head and body.
  std::string ReadResponse(int timeout_ms = 20000) {
    std::string out = ReadUntil("\r\n\r\n", timeout_ms);
    const size_t at = out.find("Content-Length: ");
    if (at == std::string::npos) {
      return out;
    }
    const size_t length = std::stoul(out.substr(at + 16));
    while (received_.size() < length && ReadSome(timeout_ms)) {
    }
    out += received_.substr(0, length);
    received_.erase(0, length);
    return out;
  }

 private:
  bool ReadSome(int timeout_ms) {
    pollfd waiting{fd_, POLLIN, 0};
    if (fd_ < 0 || poll(&waiting, 1, timeout_ms) != 1) {
      return false;
    }
    char buffer[16384];
    const ssize_t got = recv(fd_, buffer, sizeof(buffer), 0);
    if (got <= 0) {
      eof_ = true;
      return false;
    }
    received_.append(buffer, static_cast<size_t>(got));
    return true;
  }

  int fd_ = -1;
  bool connected_ = false;
  bool eof_ = false;
  std::string received_;
};

}  // namespace mach::testing
