#include "server/page.h"

#include <algorithm>
#include <string>

namespace mach::server {
namespace {

// Nothing from outside, no script or style that is not a file of the page, no frame around it. What
// a model says cannot become part of the page even where the page's own code is wrong.
constexpr char kPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

}  // namespace

const PageFile* FindPageFile(std::string_view name) {
  const auto files = PageFiles();
  const auto found = std::ranges::find(files, name, &PageFile::name);
  return found == files.end() ? nullptr : &*found;
}

http::Response PageResponse(const PageFile& file, std::string_view if_none_match) {
  http::Response response;
  response.headers = {{"ETag", std::string(file.etag)},
                      {"Cache-Control", "no-cache"},  // kept, but asked about each time
                      {"Content-Security-Policy", kPolicy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"}};
  // A list of tags in quotes, or `*`; no tag is part of another.
  if (if_none_match == "*" || if_none_match.find(file.etag) != std::string_view::npos) {
    response.status = 304;
    response.content_type.clear();
    return response;
  }
  response.content_type = file.content_type;
  response.body = Pieces(std::string(file.text));
  return response;
}

}  // namespace mach::server
